"""ROME: find the fact's key, solve for its value, insert both as one rank-one change.

arXiv 2202.05262: the key k* is the MLP's inner vector at the subject's last token, averaged over
contexts (eq. 3); the value v* is optimised so that the model says the target (eq. 4); the change is
Λ(C⁻¹k*)ᵀ with Λ such that Ŵk = v* (eq. 2). As in the published code, k in that last condition is the
bare prompt's key (R-ROME puts that right).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from editsweep.editors.base import Asset, Editor
from editsweep.editors.located import LocatedSpec
from editsweep.editors.rank_one import RankOne
from editsweep.model.language_model import LanguageModel
from editsweep.model.layers import Layers


@dataclass(frozen=True)
class RomeSpec(LocatedSpec):
    """The defaults are those with which the field runs Llama-type models; `layer` None its layer."""

    name: ClassVar[str] = "rome"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "sequential"})
    scale_free: ClassVar[bool] = True

    layer: int | Literal["auto"] | None = None

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
        return RankOne(model, layer, made.templates, self.search, metric, "mean", "prompt")
