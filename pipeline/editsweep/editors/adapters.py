"""What LoRA and AdaLoRA share: low-rank adapters of a group's own, many groups trained in one batch."""

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
    Rule,
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
class AdapterSpec:
    """Hyperparameters; `blocks` is how many of the last blocks are adapted, None all of them.

    An edit whose loss is below `stop` is done; None lets every edit take all steps. What an adapter
    consists of, and what is done beside Adam's step, each method says in the methods that follow
    `build`. Parameters go by `<module>.<part>`.
    """

    name: ClassVar[str]
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    blocks: int | None = None
    alpha: float = 32.0
    rate: float = 5e-3
    steps: int = 70
    stop: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.steps < 1 or self.rate <= 0 or self.alpha <= 0:
            raise ConfigError(f"{self.name}: steps, rate and alpha must be positive")

    def requirements(self) -> Mapping[str, Requirement]:
        """Nothing."""
        return {}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has fewer blocks.
        """
        return Adapters(self, model, *queries_and_values(model, self.blocks))

    def numbers(self, shape: Sequence[int]) -> int:
        """How many numbers are held for a matrix of `shape` while it is trained."""
        raise NotImplementedError

    def drawn(self, shape: Sequence[int], generator: torch.Generator) -> Mapping[str, Tensor]:
        """The parts of an adapter of a matrix [d_out, d_in] at the start."""
        raise NotImplementedError

    def factors(self, parameters: Parameters, module: str) -> tuple[Tensor, Tensor]:
        """a [..., rank, d_in] and b [..., rank, d_out], so that ΔW = bᵀ a."""
        raise NotImplementedError

    def change(self, parameters: Parameters, module: str) -> LowRank:
        """What one group has of it in the end."""
        return LowRank(*self.factors(parameters, module))

    def rule(self, modules: Sequence[str], start: Parameters) -> Rule:
        """What is done beside Adam's step."""
        return Plain()


@dataclass(frozen=True)
class Adapters:
    """Every group has an adapter of its own on each of `modules`, which begin in block `first`."""

    spec: AdapterSpec
    model: LanguageModel
    first: int
    modules: tuple[str, ...]

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One patch a group, `LowRank` for each module; drawn by `seed` and the edits' ids."""
        numbers = sum(self.spec.numbers(self.model.weight(name).shape) for name in self.modules)
        return edit_jobs(self.model, groups, numbers, partial(self._train, seed=seed))

    def start(self, requests: Sequence[EditRequest], seed: int) -> dict[str, Tensor]:
        """Each module's parts, drawn for this group."""
        key = content_id([self.spec.name, seed, [request.edit_id for request in requests]], 15)
        generator = torch.Generator().manual_seed(int(key, 16))
        made: dict[str, Tensor] = {}
        for name in self.modules:
            parts = self.spec.drawn(self.model.weight(name).shape, generator)
            made |= {f"{name}.{part}": drawn for part, drawn in parts.items()}
        return made

    def _train(self, jobs: Sequence[Job], seed: int) -> list[Edited]:
        spec = self.spec
        drawn = [self.start(job.requests, seed) for job in jobs]
        start = {n: torch.stack([d[n] for d in drawn]).to(self.model.device) for n in drawn[0]}
        parts = [
            UpperPart.of(some, self.first, self._adapt)
            for some in even_targets(self.model, jobs, "target")
        ]
        descent = Descent(spec.rate, spec.steps, spec.stop)
        trained = train(start, parts, descent, spec.rule(self.modules, start))
        return [self._edited(one) for one in trained]

    def _adapt(self, parameters: Parameters, group: Tensor) -> Mapping[str, Addend]:
        made: dict[str, Addend] = {}
        for name in self.modules:
            a, b = self.spec.factors(parameters, name)
            made[name] = partial(low_rank_by_group, a=a, b=b, group=group)
        return made

    def _edited(self, one: Trained) -> Edited:
        return one.edited({name: self.spec.change(one.parameters, name) for name in self.modules})
