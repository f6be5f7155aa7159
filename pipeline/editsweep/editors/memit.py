"""MEMIT: many facts at once, spread over several layers in closed form.

arXiv 2210.07229: a value z is searched for each fact in the residual stream of the last layer
(eq. 16); from the first layer to the last, Δ = R Kᵀ (λC + KKᵀ)⁻¹ (eq. 14, keys as columns), where R
is what is still missing, divided by the layers left (eq. 20). Along a sequence the published code
forgets the earlier edits; with `accumulate` their keys join λC, as AlphaEdit's baseline has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from editsweep.editors.base import Asset, Editor, State
from editsweep.editors.spreading import Spreading, WeightedSpec
from editsweep.model.language_model import LanguageModel
from editsweep.model.solve import Metric, least_squares


@dataclass(frozen=True)
class MemitSpec(WeightedSpec):
    """`accumulate` lets the keys of a sequence's earlier steps count beside C."""

    name: ClassVar[str] = "memit"
    weights: ClassVar[Mapping[str, float]] = {
        "gpt2-xl": 20_000.0,
        "gpt-neox-20b": 20_000.0,
        "smollm2-135m": 1_500.0,
        "": 15_000.0,
    }

    penalty: float = 0.5
    clamp: float = 0.75
    accumulate: bool = False

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layers.
        """
        made = self.located(model, assets)
        metrics = made.metrics()
        weight = self.weight_for(model)

        def solve(layer: int, keys: Tensor, state: State) -> Tensor:
            seen = state.get(f"keys.{layer}")
            if seen is None:
                return least_squares(keys, metrics[layer], weight)
            cost = weight * metrics[layer].matrix(len(seen)).to(keys.device) + seen.to(keys.device)
            return least_squares(keys, Metric.of(cost), 1.0)

        return Spreading.over_blocks(made, self.search, solve, self.accumulate)
