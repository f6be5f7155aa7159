"""R-ROME: ROME with one key throughout, which ends its "disabling" edits (arXiv 2403.07175).

ROME turns towards the averaged key but reaches the value for the bare prompt's. Where those two keys
differ, its denominator k·u can be near zero or negative. With one key k (eq. 3) it is
kᵀC⁻¹k/‖C⁻¹k‖ > 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from editsweep.editors.base import Asset, Editor
from editsweep.editors.located import LocatedSpec
from editsweep.editors.rank_one import RankOne
from editsweep.errors import ConfigError
from editsweep.model.language_model import LanguageModel
from editsweep.model.layers import Layers


@dataclass(frozen=True)
class RRomeSpec(LocatedSpec):
    """As `rome`; `key` is the `mean` over contexts (the published default) or the bare `prompt`'s."""

    name: ClassVar[str] = "r-rome"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "sequential"})
    scale_free: ClassVar[bool] = True

    layer: int | Literal["auto"] | None = None
    key: Literal["mean", "prompt"] = "mean"

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        super().__post_init__()
        if self.key not in ("mean", "prompt"):
            raise ConfigError(f"r-rome: key {self.key!r} is not `mean` or `prompt`")

    @property
    def place(self) -> Layers:
        """One block."""
        return Layers(self.layer)

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layer.
        """
        made = self.located(model, assets)
        (layer,) = made.layers
        metric = made.metrics()[layer]
        return RankOne(model, layer, made.templates, self.search, metric, self.key, self.key)
