"""AlphaEdit: MEMIT within the null space of what the model knows, so that the rest is left alone.

arXiv 2410.02355: P projects onto the directions that C hardly uses (eq. 8). The change solves
(P(KKᵀ + Kₚ) + L2 I) X = P K Rᵀ, ΔW = Xᵀ (eq. 14, keys as columns), where Kₚ is ΣKKᵀ of the earlier
steps of a sequence. In coordinates of P's basis the system is symmetric, so it is solved there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editsweep.editors.base import Asset, Editor, State
from editsweep.editors.spreading import Spreading, SpreadSpec
from editsweep.errors import ConfigError
from editsweep.model.language_model import LanguageModel
from editsweep.model.solve import Metric, least_squares, null_space


@dataclass(frozen=True)
class AlphaEditSpec(SpreadSpec):
    """`threshold` is the mean square below which a direction of C counts as unused.

    It is absolute, as published, or `relative` to C's mean over all directions, which depends less
    on the model's scale. `l2` is the published 10.
    """

    name: ClassVar[str] = "alphaedit"

    penalty: float = 0.5
    clamp: float = 0.75
    threshold: float = 2e-2
    relative: bool = False
    l2: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        super().__post_init__()
        if self.threshold <= 0 or self.l2 <= 0:
            raise ConfigError("alphaedit: threshold and l2 must be positive")
        if self.moment == "identity":
            raise ConfigError(
                "alphaedit: the identity has no null space; name a text for `moment`, "
                "e.g. world:train"
            )

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layers, or C of one of them has no null space.
        """
        made = self.located(model, assets)
        bases = {layer: self._basis(layer, c) for layer, c in made.moments.items()}

        def solve(layer: int, keys: Tensor, state: State) -> Tensor:
            basis, seen = bases[layer], state.get(f"keys.{layer}")
            if seen is None:
                return least_squares(keys, Metric(None, basis), self.l2)
            eye = torch.eye(len(seen), dtype=torch.float64, device=keys.device)
            cost = Metric.of(seen.to(eye) + self.l2 * eye, basis)
            return least_squares(keys, cost, 1.0)

        return Spreading.over_blocks(made, self.search, solve, remembers=True)

    def _basis(self, layer: int, moment: Tensor) -> Tensor:
        scale = float(moment.diagonal().mean()) if self.relative else 1.0
        basis = null_space(moment, self.threshold * scale)
        if not basis.shape[1]:
            raise ConfigError(
                f"alphaedit: no direction of C in layer {layer} is below the threshold "
                f"{self.threshold * scale:g}: raise `threshold`, or set `relative: true`"
            )
        return basis
