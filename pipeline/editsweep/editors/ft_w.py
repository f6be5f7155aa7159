"""FT-W: fine-tuning a whole block with a weight decay that falls with the number of edits.

The baseline of arXiv 2210.07229 (appendix B.1, code): Adam on all of one block, wd = nᵃ eᵇ for n
edits with (a, b) fitted on GPT-J, and the objective that reads all target tokens at the prompt's last
position. The decay is Adam's own, added to the gradient as wd · W. The published code asks whether
(a, b) is a tuple, reads a list, and so trains without any decay; here the power law is active.

All linear matrices of the block are trained, not its norms and biases: a patch is a change of
matrices. All n edits take every step together, where the published code goes through mini-batches.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, get_args

import torch
from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.editors.base import Asset, Edited, Editor, Requirement
from editsweep.editors.tuned import (
    Descent,
    Job,
    Objective,
    Parameters,
    UpperPart,
    by_group,
    edit_jobs,
    targets,
    train,
)
from editsweep.errors import ConfigError
from editsweep.model.hooks import Addend
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Dense


@dataclass(frozen=True)
class FtwSpec:
    """Hyperparameters; `layer` None is 3/4 of the depth (GPT-J's published 21 of 28).

    `exponent` and `intercept` are a and b of wd = nᵃ eᵇ. `objective` `target` reads each target token
    at its own place instead.
    """

    name: ClassVar[str] = "ft-w"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    layer: int | None = None
    objective: Objective = "prompt_last"
    rate: float = 5e-4
    steps: int = 25
    stop: float = 1e-2
    exponent: float = -0.87028798
    intercept: float = 0.15589562

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.objective not in get_args(Objective):
            known = "` or `".join(get_args(Objective))
            raise ConfigError(f"ft-w: objective {self.objective!r} is not `{known}`")
        if self.steps < 1 or self.rate <= 0:
            raise ConfigError("ft-w: steps and rate must be positive")

    def requirements(self) -> Mapping[str, Requirement]:
        """Nothing."""
        return {}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layer.
        """
        return Ftw(self, model, model.checked_layer(self.layer, 0.75))

    def decay(self, edits: int) -> float:
        """Weight decay for that many edits in one model."""
        return float(edits**self.exponent * math.exp(self.intercept))


@dataclass(frozen=True)
class Ftw:
    """Every group has a change of its own of every matrix of the block."""

    spec: FtwSpec
    model: LanguageModel
    layer: int

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One patch a group, `Dense` for each matrix; `seed` is not used, nothing is drawn."""
        weights = self._weights().values()
        return edit_jobs(self.model, groups, sum(w.numel() for w in weights), self._train)

    def _weights(self) -> dict[str, Tensor]:
        return {n: self.model.weight(n) for n in self.model.block_matrices(self.layer)}

    def _train(self, jobs: Sequence[Job]) -> list[Edited]:
        spec, home = self.spec, self.model.device
        weights = {n: w.to(home) for n, w in self._weights().items()}
        start = {n: torch.zeros(len(jobs), *w.shape, device=home) for n, w in weights.items()}
        parts = [
            UpperPart.of(some, self.layer, _dense)
            for some in targets(self.model, jobs, spec.objective)
        ]
        decays = [spec.decay(len(job.examples)) for job in jobs]
        rule = Decay(weights, torch.tensor(decays, device=home))
        trained = train(start, parts, Descent(spec.rate, spec.steps, spec.stop), rule)
        return [one.edited({n: Dense(d) for n, d in one.parameters.items()}) for one in trained]


def _dense(parameters: Parameters, group: Tensor) -> Mapping[str, Addend]:
    return {n: partial(by_group, change=d, group=group) for n, d in parameters.items()}


@dataclass(frozen=True)
class Decay:
    """Adds wd (W + ΔW) to the gradient; `weights` [d_out, d_in] by name, `decay` [groups]."""

    weights: Mapping[str, Tensor]
    decay: Tensor

    def before(self, parameters: Parameters, gradients: Parameters) -> None:
        """The decay's gradient."""
        scale = self.decay[:, None, None]
        for name, gradient in gradients.items():
            gradient.add_((self.weights[name].float() + parameters[name]).mul_(scale))

    def after(self, parameters: Parameters, gradients: Parameters, step: int) -> None:
        """Nothing."""

    def select(self, groups: Tensor) -> "Decay":
        """The decay of some groups."""
        return Decay(self.weights, self.decay[groups])
