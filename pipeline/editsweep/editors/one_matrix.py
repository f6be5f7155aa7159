"""What FT-M and FT-L share: Adam on one MLP output projection, whose entries may stay near the old."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from editsweep.core.types import EditRequest
from editsweep.editors.base import Edited, Requirement
from editsweep.editors.tuned import (
    Descent,
    Job,
    Objective,
    Plain,
    TailPart,
    edit_jobs,
    targets,
    train,
)
from editsweep.errors import ConfigError
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Dense


@dataclass(frozen=True)
class OneMatrixSpec:
    """`clamp` keeps every weight within ±clamp of the original after every step."""

    name: ClassVar[str]
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    rate: float = 5e-4
    steps: int = 25
    stop: float = 1e-2
    clamp: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.steps < 1 or self.rate <= 0 or (self.clamp is not None and self.clamp <= 0):
            raise ConfigError(f"{self.name}: steps, rate and clamp must be positive")

    def requirements(self) -> Mapping[str, Requirement]:
        """Nothing."""
        return {}

    @property
    def descent(self) -> Descent:
        """How Adam goes."""
        return Descent(self.rate, self.steps, self.stop)


@dataclass(frozen=True)
class OneMatrix:
    """Every group has a change of its own [d_out, d_in], with entries within ±`clamp` if given."""

    model: LanguageModel
    layer: int
    objective: Objective
    descent: Descent
    clamp: float | None

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One `Dense` patch a group; `seed` is not used, nothing is drawn."""
        weight = self.model.weight(self.model.mlp_out(self.layer))
        return edit_jobs(self.model, groups, weight.numel(), self._train)

    def _train(self, jobs: Sequence[Job]) -> list[Edited]:
        name = self.model.mlp_out(self.layer)
        weight = self.model.weight(name)
        start = {name: torch.zeros(len(jobs), *weight.shape, device=self.model.device)}
        parts = [
            TailPart.of(some, self.layer) for some in targets(self.model, jobs, self.objective)
        ]
        trained = train(start, parts, self.descent, Plain(self.clamp))
        return [one.edited({name: Dense(one.parameters[name])}) for one in trained]
