"""What editors that train at edit time share: many groups at once, each with numbers of its own.

The losses of groups are independent and Adam is element-wise, so one batch trains them all as if each
were alone. A group leaves the batch when its loss is low enough.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.editors.base import Edited
from editsweep.editors.groups import Ready, each, edit_groups
from editsweep.errors import ConfigError, EditError
from editsweep.learn.examples import encode_edit
from editsweep.model.hooks import Addend, adding
from editsweep.model.language_model import LanguageModel
from editsweep.model.optim import RowAdam
from editsweep.model.patch import Change, Patch
from editsweep.model.scoring import log_softmax
from editsweep.model.tail import Tail, TailRow
from editsweep.model.tokens import Encoded
from editsweep.model.upper import TokenRows, enter, run_upper

# Parameters, their gradient, both moments and scratch space, for as many groups as fit in this.
MEMORY_BYTES = 512 * 2**20
COPIES = 6
# Of a pass whose shape is fixed: one row for each so many tokens of the training budget.
EVEN_TOKENS = 256

Parameters = Mapping[str, Tensor]
"""What is trained, by name; each [groups, ...]."""

Objective = Literal["target", "prompt_last"]
"""Where a target's tokens are predicted: each at its own place, or all at the prompt's last token."""


@dataclass(frozen=True)
class Job:
    """One group's requests, and their texts as tokens."""

    requests: tuple[EditRequest, ...]
    examples: tuple[Encoded, ...]


class Part(Protocol):
    """Some groups' examples, as many as one pass holds."""

    def losses(self, parameters: Parameters, n_groups: int) -> Tensor:
        """What these examples add to each group's loss [groups], in nats; gradients flow."""

    def select(self, groups: Tensor) -> "Part | None":
        """The examples of those groups, renumbered in that order; None when there are none."""


class Rule(Protocol):
    """What a method does beside Adam's step; all tensors [groups, ...], changed in place."""

    def before(self, parameters: Parameters, gradients: Parameters) -> None:
        """Change the gradients before the step."""

    def after(self, parameters: Parameters, gradients: Parameters, step: int) -> None:
        """Change the parameters after step number `step`, counted from 1."""

    def select(self, groups: Tensor) -> "Rule":
        """The rule for some of the groups, in that order."""


@dataclass(frozen=True)
class Plain:
    """Nothing beside Adam's step, but entries of the change stay within ±`clamp`, if it is given."""

    clamp: float | None = None

    def before(self, parameters: Parameters, gradients: Parameters) -> None:
        """Nothing."""

    def after(self, parameters: Parameters, gradients: Parameters, step: int) -> None:
        """Back into the box."""
        if self.clamp is not None:
            for parameter in parameters.values():
                parameter.clamp_(-self.clamp, self.clamp)

    def select(self, groups: Tensor) -> "Plain":
        """The same for all."""
        return self


@dataclass(frozen=True)
class Descent:
    """Adam's `rate`, at most `steps`; a group is done when its loss is below `stop` (None: never)."""

    rate: float
    steps: int
    stop: float | None = None


@dataclass(frozen=True)
class Trained:
    """One group's numbers, the steps it took part in, and its loss before the last of them."""

    parameters: Parameters
    steps: int
    loss: float

    def edited(self, adds: Mapping[str, Change]) -> Edited:
        """The result, an error where the training diverged."""
        patch = Patch(adds)
        if not math.isfinite(self.loss) or not patch.finite:
            error = EditError("not_finite", "the change diverged")
            return Edited(steps=self.steps, loss=None, error=error)
        return Edited(patch, self.steps, self.loss)


def edit_jobs(
    model: LanguageModel,
    groups: Sequence[Sequence[EditRequest]],
    numbers: int,
    train: Callable[[Sequence[Job]], list[Edited]],
) -> list[Edited]:
    """`train` over what can be tokenised of all groups, as many at a time as memory holds.

    Args:
        model: the unedited model.
        groups: the independent edit jobs.
        numbers: how many numbers are trained for each group.
        train: one result a job.
    """
    size = max(1, MEMORY_BYTES // (COPIES * 4 * numbers))

    def edit(ready: Sequence[Sequence[Ready[Encoded]]]) -> list[Edited]:
        jobs = [Job(*zip(*group, strict=True)) for group in ready]
        chunks = (jobs[first : first + size] for first in range(0, len(jobs), size))
        return [edited for chunk in chunks for edited in train(chunk)]

    return edit_groups(groups, each(partial(encode_edit, model)), edit)


def train(
    parameters: Parameters, parts: Sequence[Part], descent: Descent, rule: Rule
) -> list[Trained]:
    """Adam on every group's parameters until its loss is low, all groups in one batch.

    Args:
        parameters: the start, overwritten.
        parts: all examples of all groups.
        descent: rate, steps and stop.
        rule: what is done beside Adam's step.
    """
    n_groups = len(next(iter(parameters.values())))
    live, made = list(range(n_groups)), {}
    adam = {name: RowAdam.of(p, descent.rate) for name, p in parameters.items()}
    for step in range(1, descent.steps + 1):
        losses, gradients = _gradients(parameters, parts, len(live))
        over = ~torch.isfinite(losses)
        if descent.stop is not None:
            over |= losses < descent.stop
        for i in over.nonzero()[:, 0].tolist():
            made[live[i]] = _taken(parameters, i, step, losses)
        if bool(over.any()):
            stay = (~over).nonzero()[:, 0]
            live = [live[i] for i in stay.tolist()]
            if not live:
                break
            parts = [kept for part in parts if (kept := part.select(stay)) is not None]
            parameters, gradients = _rows(parameters, stay), _rows(gradients, stay)
            adam = {name: one.select(stay) for name, one in adam.items()}
            losses, rule = losses[stay], rule.select(stay)
        rule.before(parameters, gradients)
        for name, one in adam.items():
            one.step(parameters[name], gradients[name])
        rule.after(parameters, gradients, step)
        if step == descent.steps:
            made |= {g: _taken(parameters, i, step, losses) for i, g in enumerate(live)}
    return [made[group] for group in range(n_groups)]


def _gradients(
    parameters: Parameters, parts: Sequence[Part], n_groups: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Each group's loss [groups], and the gradient of each parameter."""
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    losses = next(iter(parameters.values())).new_zeros(n_groups)
    for part in parts:
        loss = part.losses(leaves, n_groups)
        losses += loss.detach()
        found = torch.autograd.grad(loss.sum(), list(leaves.values()))
        for name, gradient in zip(leaves, found, strict=True):
            total[name] += gradient
    return losses, total


def _rows(parameters: Parameters, groups: Tensor) -> dict[str, Tensor]:
    return {name: p[groups] for name, p in parameters.items()}


def _taken(parameters: Parameters, row: int, step: int, losses: Tensor) -> Trained:
    numbers = {name: p[row].detach().clone() for name, p in parameters.items()}
    return Trained(numbers, step, float(losses[row]))


@dataclass(frozen=True)
class Targets:
    """The target tokens of some rows: row r is of group `group[r]` and weighs `weight[r]` in it."""

    model: LanguageModel
    examples: tuple[Encoded, ...]
    group: Tensor
    weight: Tensor
    objective: Objective

    def losses(self, hidden: Tensor, n_groups: int) -> Tensor:
        """Each group's share of the mean NLL of its targets [groups]; `hidden` [rows, T, d]."""
        at, token, row = self._places()
        logp = log_softmax(self.model, hidden[row, at])
        nll = -logp.gather(1, torch.tensor(token, device=logp.device)[:, None])[:, 0]
        counts = [len(e.ids) - e.start for e in self.examples]
        share = self.weight / torch.tensor(counts, device=logp.device)
        of_row = torch.tensor(row, device=logp.device)
        return logp.new_zeros(n_groups).index_add(0, self.group[of_row], nll * share[of_row])

    def _places(self) -> tuple[list[int], list[int], list[int]]:
        """Position, token and row of every target token."""
        at, token, row = [], [], []
        for i, example in enumerate(self.examples):
            for place in range(example.start, len(example.ids)):
                at.append((example.start if self.objective == "prompt_last" else place) - 1)
                token.append(example.ids[place])
                row.append(i)
        return at, token, row

    def silenced(self, groups: Tensor) -> "Targets | None":
        """All rows as they stand, those of other groups without weight; None where all are others.

        The groups are renumbered in that order.
        """
        rows, chosen = self.select(groups)
        if not len(rows):
            return None
        group = chosen.group[:1].expand(len(self.group)).index_put((rows,), chosen.group)
        weight = torch.zeros_like(self.weight).index_put((rows,), chosen.weight)
        return Targets(self.model, self.examples, group, weight, self.objective)

    def select(self, groups: Tensor) -> tuple[Tensor, "Targets"]:
        """The rows of those groups, and their targets with the groups renumbered in that order."""
        new = torch.full((int(self.group.max()) + 1,), -1, device=self.group.device)
        known = groups[groups < len(new)]
        new[known] = torch.arange(len(groups), device=new.device)[groups < len(new)]
        rows = (new[self.group] >= 0).nonzero()[:, 0]
        examples = tuple(self.examples[i] for i in rows.tolist())
        chosen = (new[self.group[rows]], self.weight[rows])
        return rows, Targets(self.model, examples, *chosen, self.objective)


def targets(model: LanguageModel, jobs: Sequence[Job], objective: Objective) -> list[Targets]:
    """The examples of all jobs, group by group, as many together as the token budget holds."""
    rows = [(i, e, 1 / len(job.examples)) for i, job in enumerate(jobs) for e in job.examples]
    room = max(1, model.training_budget // max(len(e.ids) for _, e, _ in rows))
    return [
        _placed(model, rows[first : first + room], objective) for first in range(0, len(rows), room)
    ]


def _placed(
    model: LanguageModel, rows: Sequence[tuple[int, Encoded, float]], objective: Objective
) -> Targets:
    """Rows of (group, example, weight)."""
    group, examples, weight = zip(*rows, strict=True)
    of_row, weights = (torch.tensor(column, device=model.device) for column in (group, weight))
    return Targets(model, examples, of_row, weights, objective)


def even_targets(model: LanguageModel, jobs: Sequence[Job], objective: Objective) -> list[Targets]:
    """The examples of all jobs, in passes whose shape does not depend on who shares them.

    Adam's first steps are the signs of gradients, so a low-rank factor trained long magnifies the
    rounding by which a matrix product of 12 rows differs from one of 96. Here a job of one example
    shares passes with those of like length and equally many targets, always so many; where there are
    too few, one is repeated without weight. A job of several has passes of its own.
    """
    size = max(1, model.training_budget // EVEN_TOKENS)
    alone: dict[tuple[int, int], list[tuple[int, Encoded, float]]] = {}
    passes: list[list[tuple[int, Encoded, float]]] = []
    for index, job in enumerate(jobs):
        rows = [(index, e, 1 / len(job.examples)) for e in job.examples]
        if len(rows) > 1:
            passes += [rows[first : first + size] for first in range(0, len(rows), size)]
            continue
        ((_, one, _),) = rows
        alone.setdefault((_even(len(one.ids) - 1), len(one.ids) - one.start), []).extend(rows)
    for rows in alone.values():
        for first in range(0, len(rows), size):
            some = rows[first : first + size]
            index, one, _ = some[-1]
            passes.append([*some, *[(index, one, 0.0)] * (size - len(some))])
    return [_placed(model, rows, objective) for rows in passes]


def _even(length: int) -> int:
    """The next multiple of eight."""
    return -(-length // 8) * 8


@dataclass(frozen=True)
class TailPart:
    """A dense change of the MLP output projection `name` [groups, d_out, d_in], run as a tail."""

    name: str
    tail: Tail
    targets: Targets

    @classmethod
    def of(cls, targets: Targets, layer: int) -> "TailPart":
        """The rows read once, for changes in block `layer`."""
        rows = [TailRow(e.ids[:-1], 0) for e in targets.examples]
        model = targets.model
        return cls(model.mlp_out(layer), Tail.of(model, rows, layer), targets)

    def losses(self, parameters: Parameters, n_groups: int) -> Tensor:
        """See `Part`."""
        change = by_group(self.tail.key, parameters[self.name], self.targets.group)
        return self.targets.losses(self.tail.run(change), n_groups)

    def select(self, groups: Tensor) -> "TailPart | None":
        """See `Part`."""
        rows, chosen = self.targets.select(groups)
        return TailPart(self.name, self.tail.select(rows), chosen) if len(rows) else None


Adapt = Callable[[Parameters, Tensor], Mapping[str, Addend]]
"""From parameters, and each row's group, to what is added to modules' outputs."""


@dataclass(frozen=True)
class UpperPart:
    """Changes of any modules of blocks from `first` on; `hidden` [rows, T, d] enters that block.

    Its shape stays as it is when groups leave.
    """

    first: int
    adapt: Adapt
    rows: TokenRows
    hidden: Tensor
    targets: Targets

    @classmethod
    def of(cls, targets: Targets, first: int, adapt: Adapt) -> "UpperPart":
        """The rows read once, up to block `first`."""
        model, ids = targets.model, [e.ids[:-1] for e in targets.examples]
        rows = TokenRows.of(model, ids, _even(max(len(row) for row in ids)))
        return cls(first, adapt, rows, enter(model, rows, first), targets)

    def losses(self, parameters: Parameters, n_groups: int) -> Tensor:
        """See `Part`."""
        model = self.targets.model
        with adding(model, self.adapt(parameters, self.targets.group)):
            final = run_upper(model, self.rows, self.hidden, self.first)
        return self.targets.losses(final, n_groups)

    def select(self, groups: Tensor) -> "UpperPart | None":
        """See `Part`."""
        chosen = self.targets.silenced(groups)
        return replace(self, targets=chosen) if chosen else None


def by_group(x: Tensor, change: Tensor, group: Tensor) -> Tensor:
    """What each row's own matrix adds: x[r] change[group[r]]ᵀ, computed in the change's precision.

    x [rows, T, d_in], change [groups, d_out, d_in], group [rows] ascending; no matrix is copied.
    """
    wide = x.to(change.dtype)
    present, counts = group.unique_consecutive(return_counts=True)
    if len(present) == len(change) == len(group):
        return (wide @ change.mT).to(x.dtype)
    own, parts = change.unbind(), wide.split(counts.tolist())
    made = [rows @ own[g].T for g, rows in zip(present.tolist(), parts, strict=True)]
    return torch.cat(made).to(x.dtype)


def low_rank_by_group(x: Tensor, a: Tensor, b: Tensor, group: Tensor) -> Tensor:
    """(x[r] a[group[r]]ᵀ) b[group[r]]; a [groups, rank, d_in], b [groups, rank, d_out]."""
    return ((x.to(a.dtype) @ a[group].mT) @ b[group]).to(x.dtype)


def queries_and_values(model: LanguageModel, blocks: int | None) -> tuple[int, tuple[str, ...]]:
    """The first of the last `blocks` blocks (None: all), and the query and value projections there.

    Where one matrix projects queries, keys and values together, it is that one.

    Raises:
        ConfigError: the model has fewer blocks.
    """
    if blocks is not None and not 1 <= blocks <= model.depth:
        raise ConfigError(f"blocks {blocks}: {model.name} has 1 to {model.depth}")
    first = 0 if blocks is None else model.depth - blocks
    names = [model.attention_in(layer) for layer in range(first, model.depth)]
    return first, tuple(dict.fromkeys(n for block in names for n in (block[0], block[-1])))
