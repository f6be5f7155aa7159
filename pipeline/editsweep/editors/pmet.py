"""PMET: MEMIT with a value for each half of the block, of which only the MLP's is written.

arXiv 2308.08742: δ for the attention's output and δ for the MLP's are searched together, so that the
MLP's weights need not store what attention does (eq. 10); what is missing is divided by the square
root of the layers left (eq. 14). Once the target is the model's first choice its likelihood counts a
tenth, until the divergence is small.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from editsweep.editors.base import Asset, Editor, State
from editsweep.editors.spreading import Spreading, WeightedSpec
from editsweep.locate.site import Halves
from editsweep.locate.value import Search
from editsweep.model.language_model import LanguageModel
from editsweep.model.solve import least_squares


@dataclass(frozen=True)
class PmetSpec(WeightedSpec):
    """`stop` is the divergence term at which a fact that says its target is done."""

    name: ClassVar[str] = "pmet"
    weights: ClassVar[Mapping[str, float]] = {
        "gpt-j-6b": 6_000.0,
        "smollm2-135m": 1_500.0,
        "": 15_000.0,
    }

    steps: int = 20
    stop: float = 1e-2
    penalty: float = 0.5
    clamp: float = 1.0
    relaxed: float = 0.1

    @property
    def search(self) -> Search:
        """With the likelihood relaxed."""
        return replace(super().search, relaxed=self.relaxed)

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layers, or the last of them is block 0.
        """
        made = self.located(model, assets)
        metrics = made.metrics()
        weight = self.weight_for(model)

        def solve(layer: int, keys: Tensor, _: State) -> Tensor:
            return least_squares(keys, metrics[layer], weight)

        last = made.layers[-1]
        return Spreading(
            model,
            made.layers,
            made.templates,
            self.search,
            Halves(last),
            model.mlp_out(last),
            solve,
            lambda left: left**-0.5,
        )
