"""AdaLoRA: an adapter whose ranks are shared out by importance (arXiv 2303.10512).

ΔW = P Λ Q (eq. 3) on the projections of queries and values of every block. P and Q are kept nearly
orthogonal by a penalty (eq. 4), in the form and weight of the library that the field uses: the mean
Frobenius norm of PᵀP − I and QQᵀ − I over all modules. A triplet's importance (eqs. 7 to 11) is that of
its λ plus the mean over its two vectors, each entry's sensitivity |w ∂L/∂w| smoothed and multiplied by
its smoothed uncertainty. After each step the least important λ of all modules are set to zero until
the edit is within its budget, which falls from the first rank to the last along a cubic (eq. 12).
There is no dropout.
"""

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

DEVIATION = 0.02


@dataclass(frozen=True)
class AdaLoraSpec:
    """Hyperparameters; `blocks` is how many of the last blocks are adapted, None all of them.

    `first_rank` and `last_rank` are the mean ranks of a module at the start and at the end. The
    budget stands still for the first `warmup` and the last `settle` of the steps (fractions), and an
    edit has only then its last rank; one that stops early keeps more. `smoothing` is β₁ = β₂.
    """

    name: ClassVar[str] = "adalora"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    blocks: int | None = None
    first_rank: int = 12
    last_rank: int = 8
    alpha: float = 32.0
    rate: float = 5e-3
    steps: int = 70
    stop: float | None = None
    warmup: float = 0.1
    settle: float = 0.3
    smoothing: float = 0.85
    penalty: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if not 1 <= self.last_rank <= self.first_rank:
            raise ConfigError("adalora: last_rank must be 1 or more, first_rank not below it")
        if self.steps < 1 or self.rate <= 0 or self.alpha <= 0 or self.penalty < 0:
            raise ConfigError(
                "adalora: steps, rate and alpha must be positive, penalty not negative"
            )
        if min(self.warmup, self.settle) < 0 or self.warmup + self.settle >= 1:
            raise ConfigError("adalora: warmup and settle are fractions whose sum is below 1")
        if not 0 <= self.smoothing < 1:
            raise ConfigError("adalora: smoothing is 0 or more and below 1")

    def requirements(self) -> Mapping[str, Requirement]:
        """Nothing."""
        return {}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has fewer blocks.
        """
        return AdaLora(self, model, *queries_and_values(model, self.blocks))

    def budget(self, step: int, modules: int) -> int:
        """How many triplets an edit may have after `step`, over all its modules (eq. 12)."""
        start, end = self.warmup * self.steps, (1 - self.settle) * self.steps
        left = min(max((end - step) / (end - start), 0.0), 1.0)
        rank = self.last_rank + (self.first_rank - self.last_rank) * left**3
        return int(rank * modules)


@dataclass(frozen=True)
class AdaLora:
    """Every group has an adapter of its own on each of `modules`, which begin in block `first`."""

    spec: AdaLoraSpec
    model: LanguageModel
    first: int
    modules: tuple[str, ...]

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One patch a group, `LowRank` for each module; drawn by `seed` and the edits' ids."""
        sizes = (sum(self.model.weight(name).shape) for name in self.modules)
        numbers = 2 * self.spec.first_rank * sum(sizes)  # with what the importance remembers
        return edit_jobs(self.model, groups, numbers, lambda jobs: self._train(jobs, seed))

    def _train(self, jobs: Sequence[Job], seed: int) -> list[Edited]:
        spec = self.spec
        drawn = [self.start(job.requests, seed) for job in jobs]
        start = {n: torch.stack([d[n] for d in drawn]).to(self.model.device) for n in drawn[0]}
        parts = [
            UpperPart.of(some, self.first, self._adapt)
            for some in even_targets(self.model, jobs, "target")
        ]
        zeros = {n: torch.zeros_like(p) for n, p in start.items()}
        rule = Allocation(spec, self.modules, zeros, {n: z.clone() for n, z in zeros.items()})
        trained = train(start, parts, Descent(spec.rate, spec.steps, spec.stop), rule)
        return [self._edited(one) for one in trained]

    def start(self, requests: Sequence[EditRequest], seed: int) -> dict[str, Tensor]:
        """For each module Q = a [rank, d_in] and Pᵀ = b [rank, d_out], drawn, and λ [rank], zero."""
        key = content_id(["adalora", seed, [request.edit_id for request in requests]], 15)
        generator = torch.Generator().manual_seed(int(key, 16))
        rank, made = self.spec.first_rank, {}
        for name in self.modules:
            d_out, d_in = self.model.weight(name).shape
            for part, width in (("a", d_in), ("b", d_out)):
                drawn = torch.empty(rank, width).normal_(0, DEVIATION, generator=generator)
                made[f"{name}.{part}"] = drawn
            made[f"{name}.lambda"] = torch.zeros(rank)
        return made

    def _adapt(self, parameters: Parameters, group: Tensor) -> Mapping[str, Addend]:
        return {
            n: partial(
                low_rank_by_group,
                a=parameters[f"{n}.a"],
                b=self._scaled(parameters, n),
                group=group,
            )
            for n in self.modules
        }

    def _scaled(self, parameters: Parameters, name: str) -> Tensor:
        """(α/r) Λ Pᵀ [..., rank, d_out]."""
        scale = self.spec.alpha / self.spec.first_rank
        return parameters[f"{name}.lambda"][..., None] * parameters[f"{name}.b"] * scale

    def _edited(self, one: Trained) -> Edited:
        adds = {}
        for name in self.modules:
            kept = one.parameters[f"{name}.lambda"] != 0
            a, b = one.parameters[f"{name}.a"], self._scaled(one.parameters, name)
            adds[name] = LowRank(a[kept], b[kept])
        return one.edited(adds)


@dataclass(frozen=True)
class Allocation:
    """The penalty before a step, the budget after it.

    `sensitivity` is Ī and `uncertainty` Ū of eqs. 9 and 10, shaped as the parameters.
    """

    spec: AdaLoraSpec
    modules: tuple[str, ...]
    sensitivity: Parameters
    uncertainty: Parameters

    def before(self, parameters: Parameters, gradients: Parameters) -> None:
        """The penalty's gradient: that of ‖a aᵀ − I‖ is 2 (a aᵀ − I) a / ‖a aᵀ − I‖."""
        share = self.spec.penalty / (2 * len(self.modules))
        for name in (f"{module}.{part}" for module in self.modules for part in "ab"):
            a = parameters[name]
            off = a @ a.mT - torch.eye(a.shape[-2], device=a.device)
            norm = off.norm(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(off.dtype).tiny)
            gradients[name].add_(off / norm @ a, alpha=2 * share)

    def after(self, parameters: Parameters, gradients: Parameters, step: int) -> None:
        """Take note of the importances, and set the least important λ to zero."""
        beta, spec = self.spec.smoothing, self.spec
        if step <= (1 - spec.settle) * spec.steps:
            for name, parameter in parameters.items():
                now = (parameter * gradients[name]).abs_()
                mean = self.sensitivity[name].lerp_(now, 1 - beta)
                self.uncertainty[name].lerp_((now - mean).abs_(), 1 - beta)
        budget = spec.budget(step, len(self.modules))
        scores = torch.stack([self._score(name) for name in self.modules], 1)
        if budget >= scores[0].numel():
            return
        keep = torch.zeros_like(scores, dtype=torch.bool).flatten(1)
        keep.scatter_(1, scores.flatten(1).topk(budget, dim=1).indices, True)
        for name, kept in zip(self.modules, keep.view_as(scores).unbind(1), strict=True):
            parameters[f"{name}.lambda"].mul_(kept)

    def _score(self, module: str) -> Tensor:
        """Importance of each triplet [groups, rank] (eq. 7)."""
        found = {
            n: self.sensitivity[f"{module}.{n}"] * self.uncertainty[f"{module}.{n}"]
            for n in ("a", "b", "lambda")
        }
        return found["lambda"] + found["a"].mean(-1) + found["b"].mean(-1)

    def select(self, groups: Tensor) -> "Allocation":
        """The rule for some groups."""
        chosen = (
            {n: t[groups] for n, t in held.items()} for held in (self.sensitivity, self.uncertainty)
        )
        return Allocation(self.spec, self.modules, *chosen)
