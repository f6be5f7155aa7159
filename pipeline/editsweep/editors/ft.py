"""FT-M: fine-tuning one MLP output projection on the target's tokens, the prompt masked.

Cross entropy of each target token at its own place, as in EasyEdit's baseline. The objective that
reads all of them at the prompt's last token, with a clamp, is the editor `ft-l`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from editsweep.core.types import EditRequest
from editsweep.editors.base import Asset, Edited, Editor, Requirement
from editsweep.editors.tuned import Descent, Job, Plain, TailPart, edit_jobs, targets, train
from editsweep.errors import ConfigError
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Dense


@dataclass(frozen=True)
class FtSpec:
    """Hyperparameters; `layer` None is 7/10 of the depth (21 of 30, the field's 21 of 28 to 32).

    `clamp` keeps every weight within ±clamp of the original after every step; None does not.
    """

    name: ClassVar[str] = "ft"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    layer: int | None = None
    rate: float = 5e-4
    steps: int = 25
    stop: float = 1e-2
    clamp: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.steps < 1 or self.rate <= 0 or (self.clamp is not None and self.clamp <= 0):
            raise ConfigError("ft: steps, rate and clamp must be positive")

    def requirements(self) -> Mapping[str, Requirement]:
        """Nothing."""
        return {}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layer.
        """
        return Ft(self, model, model.checked_layer(self.layer, 0.7))


@dataclass(frozen=True)
class Ft:
    """Every group has a change of its own [d_out, d_in]."""

    spec: FtSpec
    model: LanguageModel
    layer: int

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One `Dense` patch a group; `seed` is not used, nothing is drawn."""
        weight = self.model.weight(self.model.mlp_out(self.layer))
        return edit_jobs(self.model, groups, weight.numel(), self._train)

    def _train(self, jobs: Sequence[Job]) -> list[Edited]:
        spec, name = self.spec, self.model.mlp_out(self.layer)
        weight = self.model.weight(name)
        start = {name: torch.zeros(len(jobs), *weight.shape, device=weight.device)}
        parts = [TailPart.of(some, self.layer) for some in targets(self.model, jobs, "target")]
        descent = Descent(spec.rate, spec.steps, spec.stop)
        trained = train(start, parts, descent, Plain(spec.clamp))
        return [one.edited({name: Dense(one.parameters[name])}) for one in trained]
