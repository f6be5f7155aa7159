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
from typing import ClassVar

import torch
from torch import Tensor

from editsweep.editors.adapters import AdapterSpec
from editsweep.editors.tuned import Parameters, Rule
from editsweep.errors import ConfigError
from editsweep.model.patch import LowRank

DEVIATION = 0.02


@dataclass(frozen=True)
class AdaLoraSpec(AdapterSpec):
    """Hyperparameters; `first_rank` and `last_rank` are mean ranks of a module at start and end.

    The budget stands still for the first `warmup` and the last `settle` of the steps (fractions), and
    an edit has only then its last rank; one that stops early keeps more. `smoothing` is β₁ = β₂.
    """

    name: ClassVar[str] = "adalora"

    first_rank: int = 12
    last_rank: int = 8
    warmup: float = 0.1
    settle: float = 0.3
    smoothing: float = 0.85
    penalty: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        super().__post_init__()
        if not 1 <= self.last_rank <= self.first_rank:
            raise ConfigError("adalora: last_rank must be 1 or more, first_rank not below it")
        if self.penalty < 0:
            raise ConfigError("adalora: penalty must not be negative")
        if min(self.warmup, self.settle) < 0 or self.warmup + self.settle >= 1:
            raise ConfigError("adalora: warmup and settle are fractions whose sum is below 1")
        if not 0 <= self.smoothing < 1:
            raise ConfigError("adalora: smoothing is 0 or more and below 1")

    def budget(self, step: int, modules: int) -> int:
        """How many triplets an edit may have after `step`, over all its modules (eq. 12)."""
        start, end = self.warmup * self.steps, (1 - self.settle) * self.steps
        left = min(max((end - step) / (end - start), 0.0), 1.0)
        rank = self.last_rank + (self.first_rank - self.last_rank) * left**3
        return int(rank * modules)

    def numbers(self, shape: Sequence[int]) -> int:
        """Both factors, and what the importance remembers of them."""
        return 2 * self.first_rank * sum(shape)

    def drawn(self, shape: Sequence[int], generator: torch.Generator) -> Mapping[str, Tensor]:
        """Q as `a` [rank, d_in] and Pᵀ as `b` [rank, d_out], drawn, and λ as `lambda` [rank], zero."""
        rank, (d_out, d_in) = self.first_rank, shape
        made = {
            part: torch.empty(rank, width).normal_(0, DEVIATION, generator=generator)
            for part, width in (("a", d_in), ("b", d_out))
        }
        return made | {"lambda": torch.zeros(rank)}

    def factors(self, parameters: Parameters, module: str) -> tuple[Tensor, Tensor]:
        """Q and (α/r) Λ Pᵀ."""
        scale = self.alpha / self.first_rank
        weight = parameters[f"{module}.lambda"][..., None]
        return parameters[f"{module}.a"], weight * parameters[f"{module}.b"] * scale

    def change(self, parameters: Parameters, module: str) -> LowRank:
        """The triplets that are left."""
        kept = parameters[f"{module}.lambda"] != 0
        a, b = self.factors(parameters, module)
        return LowRank(a[kept], b[kept])

    def rule(self, modules: Sequence[str], start: Parameters) -> Rule:
        """The penalty and the budget; nothing is known of any importance yet."""
        none = [{n: torch.zeros_like(p) for n, p in start.items()} for _ in range(2)]
        return Allocation(self, tuple(modules), *none)


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
