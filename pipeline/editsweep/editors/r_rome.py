"""R-ROME: ROME with one key throughout, which ends its "disabling" edits (arXiv 2403.07175).

ROME turns towards the averaged key but reaches the value for the bare prompt's. Where those two keys
differ, its denominator k·u can be near zero or negative. With one key k (eq. 3) it is
kᵀC⁻¹k/‖C⁻¹k‖ > 0.
"""

from dataclasses import dataclass
from typing import ClassVar

from editsweep.editors.rank_one import Key, RankOneSpec
from editsweep.errors import ConfigError


@dataclass(frozen=True)
class RRomeSpec(RankOneSpec):
    """As `rome`; `key` is the `mean` over contexts (the published default) or the bare `prompt`'s."""

    name: ClassVar[str] = "r-rome"

    key: Key = "mean"

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        super().__post_init__()
        if self.key not in ("mean", "prompt"):
            raise ConfigError(f"r-rome: key {self.key!r} is not `mean` or `prompt`")

    @property
    def keys(self) -> tuple[Key, Key]:
        """One key throughout."""
        return self.key, self.key
