"""MEMIT: many facts at once, spread over several layers in closed form.

arXiv 2210.07229: a value z is searched for each fact in the residual stream of the last layer
(eq. 16); from the first layer to the last, Δ = R Kᵀ (λC + KKᵀ)⁻¹ (eq. 14, keys as columns), where R
is what is still missing, divided by the layers left (eq. 20). Along a sequence the published code
forgets the earlier edits; with `accumulate` their keys join λC, as AlphaEdit's baseline has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from editsweep.editors.base import Asset, Editor, State
from editsweep.editors.located import LocatedSpec
from editsweep.editors.spreading import Spreading
from editsweep.errors import ConfigError
from editsweep.locate.site import BlockOut
from editsweep.model.language_model import LanguageModel
from editsweep.model.layers import Layers
from editsweep.model.solve import Metric, least_squares

# λ belongs to the scale of C and of the keys, so each model has its own: published for the larger
# ones, measured for the small one (docs/closed-form.md).
WEIGHTS: Mapping[str, float] = {
    "gpt2-xl": 20_000.0,
    "gpt-neox-20b": 20_000.0,
    "smollm2-135m": 1_500.0,
    "": 15_000.0,
}


@dataclass(frozen=True)
class MemitSpec(LocatedSpec):
    """`layers` None is where the field edits this family; `weight` None is this model's λ."""

    name: ClassVar[str] = "memit"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    contexts: int = 5
    penalty: float = 0.5
    clamp: float = 0.75
    layers: tuple[int, ...] | Literal["auto"] | None = None
    weight: float | None = None
    accumulate: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        super().__post_init__()
        if self.weight is not None and self.weight <= 0:
            raise ConfigError("memit: weight must be positive")

    @property
    def place(self) -> Layers:
        """Five blocks, unless they are named."""
        return Layers(self.layers, 5)

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layers.
        """
        made = self.located(model, assets)
        metrics = made.metrics()
        weight = self.weight or WEIGHTS.get(model.name, WEIGHTS[""])

        def solve(layer: int, keys: Tensor, state: State) -> Tensor:
            seen = state.get(f"keys.{layer}")
            if seen is None:
                return least_squares(keys, metrics[layer], weight)
            cost = weight * metrics[layer].matrix(len(seen)).to(keys.device) + seen.to(keys.device)
            return least_squares(keys, Metric.of(cost), 1.0)

        last = made.layers[-1]
        return Spreading(
            model,
            made.layers,
            made.templates,
            self.search,
            BlockOut(last),
            f"{model.family.blocks}.{last}",
            solve,
            lambda left: 1 / left,
            self.accumulate,
        )
