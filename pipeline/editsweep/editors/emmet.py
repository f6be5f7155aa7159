"""EMMET: ROME's equality, kept for a whole batch at once.

arXiv 2401.10323, eq. 10: Δ = R (KᵀC⁻¹K)⁻¹ KᵀC⁻¹ (keys as columns) gives every key exactly its value,
at the least cost in C; one edit is ROME's closed form. With more than one, `slack` times the identity
is added to the inner matrix, which would else be near singular for keys that are alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from editsweep.editors.base import Asset, Editor, State
from editsweep.editors.spreading import Spreading, SpreadSpec
from editsweep.errors import ConfigError
from editsweep.model.language_model import LanguageModel
from editsweep.model.solve import least_squares


@dataclass(frozen=True)
class EmmetSpec(SpreadSpec):
    """`weight` scales C, and so how much `slack` counts; one layer, ROME's, unless more are named."""

    name: ClassVar[str] = "emmet"
    usual: ClassVar[int] = 1

    weight: float = 1.0
    slack: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        super().__post_init__()
        if self.weight <= 0 or self.slack < 0:
            raise ConfigError("emmet: weight must be positive, slack not negative")

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layers.
        """
        made = self.located(model, assets)
        metrics = made.metrics()

        def solve(layer: int, keys: Tensor, _: State) -> Tensor:
            slack = self.slack * self.weight if len(keys) > 1 else 0.0
            return least_squares(keys, metrics[layer], slack)

        return Spreading.over_blocks(made, self.search, solve)
