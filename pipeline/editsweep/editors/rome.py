"""ROME: find the fact's key, solve for its value, insert both as one rank-one change.

arXiv 2202.05262: the key k* is the MLP's inner vector at the subject's last token, averaged over
contexts (eq. 3); the value v* is optimised so that the model says the target (eq. 4); the change is
Λ(C⁻¹k*)ᵀ with Λ such that Ŵk = v* (eq. 2). As in the published code, k in that last condition is the
bare prompt's key (R-ROME puts that right).
"""

from dataclasses import dataclass
from typing import ClassVar

from editsweep.editors.rank_one import Key, RankOneSpec


@dataclass(frozen=True)
class RomeSpec(RankOneSpec):
    """The defaults are those with which the field runs Llama-type models."""

    name: ClassVar[str] = "rome"

    @property
    def keys(self) -> tuple[Key, Key]:
        """Towards the averaged key, exact for the bare prompt's."""
        return "mean", "prompt"
