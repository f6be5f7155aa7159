"""How a network is trained: hyperparameters, all part of the trained network's identity."""

import math
from dataclasses import dataclass

from editsweep.errors import ConfigError


@dataclass(frozen=True)
class Training:
    """Adam on the outer loss; the rate rises over `warmup` steps and falls as a cosine to a tenth.

    A step takes `models` groups of `edits` edits; a group's edits go into one model together.
    `locality` weighs the divergence from the unedited model; with a `margin` it is instead the
    start of a multiplier that rises while the divergence exceeds the margin and falls, not below
    zero, while it does not (arXiv 2104.08164, eq. 5). Every `every` steps `validate` records of the
    validation part decide what the best network is; after `patience` times without a better one
    training ends. `observe` edits give the networks' input statistics. `records` is how many records
    of the source are used, those of rare relations first; `share` how much of them is for
    validation, and as much again for test.
    """

    steps: int = 500
    models: int = 8
    edits: int = 1
    rate: float = 1e-3
    warmup: int = 50
    clip: float = 1.0
    locality: float = 10.0
    margin: float | None = None
    multiplier_rate: float = 0.1
    every: int = 100
    patience: int = 5
    validate: int = 64
    observe: int = 128
    records: int = 1200
    share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        counts = ("steps", "models", "edits", "every", "patience", "validate", "observe", "records")
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)}: write 1 or more")
        for name in ("rate", "clip", "multiplier_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)}: write more than 0")
        if not 0 < self.share <= 0.4:
            raise ConfigError(f"share {self.share}: write more than 0 and at most 0.4")
        if self.locality < 0 or self.warmup < 0 or (self.margin is not None and self.margin < 0):
            raise ConfigError("locality, warmup and margin must not be negative")

    @property
    def batch(self) -> int:
        """Edits a step."""
        return self.models * self.edits

    def rate_at(self, step: int) -> float:
        """The learning rate of step number `step`, the first being 1."""
        if step <= self.warmup:
            return self.rate * step / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (0.55 + 0.45 * math.cos(math.pi * done))
