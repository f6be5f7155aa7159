"""LoRA: a low-rank adapter for an edit, trained on its target's tokens (arXiv 2106.09685).

h = W₀ x + (α/r) B A x (eq. 3), A drawn and B zero, on the projections of queries and values of every
block, as the field edits with it: Adam at 5e-3, 70 steps without an early stop, cross entropy of the
target's tokens. Adapters of many edits are rows of one batch. There is no dropout.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from editsweep.core.ids import content_id
from editsweep.core.types import EditRequest
from editsweep.editors.base import Asset, Edited, Editor, Requirement
from editsweep.editors.tuned import (
    Descent,
    Job,
    Parameters,
    Plain,
    Trained,
    UpperPart,
    edit_jobs,
    even_targets,
    low_rank_by_group,
    queries_and_values,
    train,
)
from editsweep.errors import ConfigError
from editsweep.model.hooks import Addend
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import LowRank


@dataclass(frozen=True)
class LoraSpec:
    """Hyperparameters; `blocks` is how many of the last blocks are adapted, None all of them.

    An edit whose loss is below `stop` is done; None lets every edit take all steps.
    """

    name: ClassVar[str] = "lora"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    blocks: int | None = None
    rank: int = 8
    alpha: float = 32.0
    rate: float = 5e-3
    steps: int = 70
    stop: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if min(self.rank, self.steps) < 1 or self.rate <= 0 or self.alpha <= 0:
            raise ConfigError("lora: rank, alpha, rate and steps must be positive")

    def requirements(self) -> Mapping[str, Requirement]:
        """Nothing."""
        return {}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has fewer blocks.
        """
        return Lora(self, model, *queries_and_values(model, self.blocks))


@dataclass(frozen=True)
class Lora:
    """Every group has an adapter of its own on each of `modules`, which begin in block `first`."""

    spec: LoraSpec
    model: LanguageModel
    first: int
    modules: tuple[str, ...]

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One patch a group, `LowRank` for each module; A is drawn by `seed` and the edits' ids."""
        sizes = (sum(self.model.weight(name).shape) for name in self.modules)
        numbers = self.spec.rank * sum(sizes)
        return edit_jobs(self.model, groups, numbers, lambda jobs: self._train(jobs, seed))

    def _train(self, jobs: Sequence[Job], seed: int) -> list[Edited]:
        spec = self.spec
        drawn = [self.start(job.requests, seed) for job in jobs]
        start = {n: torch.stack([d[n] for d in drawn]).to(self.model.device) for n in drawn[0]}
        parts = [
            UpperPart.of(some, self.first, self._adapt)
            for some in even_targets(self.model, jobs, "target")
        ]
        trained = train(start, parts, Descent(spec.rate, spec.steps, spec.stop), Plain())
        return [self._edited(one) for one in trained]

    def start(self, requests: Sequence[EditRequest], seed: int) -> dict[str, Tensor]:
        """For each module A [rank, d_in], uniform within ±1/√d_in, and B [rank, d_out], zero."""
        key = content_id(["lora", seed, [request.edit_id for request in requests]], 15)
        generator = torch.Generator().manual_seed(int(key, 16))
        made: dict[str, Tensor] = {}
        for name in self.modules:
            d_out, d_in = self.model.weight(name).shape
            bound = 1 / math.sqrt(d_in)
            a = torch.empty(self.spec.rank, d_in).uniform_(-bound, bound, generator=generator)
            made |= {f"{name}.a": a, f"{name}.b": torch.zeros(self.spec.rank, d_out)}
        return made

    def _adapt(self, parameters: Parameters, group: Tensor) -> Mapping[str, Addend]:
        scale = self.spec.alpha / self.spec.rank
        return {
            n: partial(
                low_rank_by_group,
                a=parameters[f"{n}.a"],
                b=parameters[f"{n}.b"] * scale,
                group=group,
            )
            for n in self.modules
        }

    def _edited(self, one: Trained) -> Edited:
        scale, held = self.spec.alpha / self.spec.rank, one.parameters
        return one.edited(
            {n: LowRank(held[f"{n}.a"], held[f"{n}.b"] * scale) for n in self.modules}
        )
