"""Fine-tuning one MLP output projection, as the field's baselines do it.

FT-M (`objective: target`): cross entropy of the target's tokens, the prompt masked
(EasyEdit's baseline). FT-L (`objective: prompt_last`, `clamp`): the log-probability of every target
token at the last prompt position, weights kept within ±clamp of the original after every step
(arXiv 2012.00363; as run in arXiv 2202.05262, section 3.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.editors.base import Asset, Edited, Editor, Requirement
from editsweep.errors import ConfigError, EditError
from editsweep.model.language_model import LanguageModel
from editsweep.model.optim import RowAdam
from editsweep.model.patch import Dense, Patch
from editsweep.model.scoring import log_softmax
from editsweep.model.tail import Tail, TailRow
from editsweep.model.tokens import Encoded, encode, join

# A dense change, its gradient, both moments and scratch space, for as many edits as fit in this.
MEMORY_BYTES = 512 * 2**20


@dataclass(frozen=True)
class FtSpec:
    """Hyperparameters; `layer` None is 7/10 of the depth (21 of 30, the field's 21 of 28 to 32)."""

    name: ClassVar[str] = "ft"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    layer: int | None = None
    objective: Literal["target", "prompt_last"] = "target"
    rate: float = 5e-4
    steps: int = 25
    stop: float = 1e-2
    clamp: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.objective not in ("target", "prompt_last"):
            raise ConfigError(f"ft: objective {self.objective!r} is not `target` or `prompt_last`")
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
    """All groups of a chunk are trained together, each with a weight change of its own."""

    spec: FtSpec
    model: LanguageModel
    layer: int

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One `Dense` patch a group; `seed` is not used, nothing is drawn."""
        weight = self.model.weight(self.model.mlp_out(self.layer))
        size = max(1, MEMORY_BYTES // (6 * 4 * weight.numel()))
        return [
            edited
            for first in range(0, len(groups), size)
            for edited in self._edit_chunk(groups[first : first + size])
        ]

    def _edit_chunk(self, groups: Sequence[Sequence[EditRequest]]) -> list[Edited]:
        encoded: list[list[Encoded]] = []
        errors: dict[int, EditError] = {}
        for index, group in enumerate(groups):
            try:
                encoded.append(_encode(self.model, group))
            except EditError as error:
                errors[index] = error
        kept = [i for i in range(len(groups)) if i not in errors]
        trained = self._train(encoded) if encoded else []
        done = dict(zip(kept, trained, strict=True))
        return [done.get(i) or Edited(error=errors[i]) for i in range(len(groups))]

    def _train(self, groups: Sequence[Sequence[Encoded]]) -> list[Edited]:
        """Adam on every group's change until its loss is below `stop`, in one batch."""
        spec, name = self.spec, self.model.mlp_out(self.layer)
        parts = self._parts(groups)
        live = torch.arange(len(groups))
        weight = self.model.weight(name)
        change = torch.zeros(len(groups), *weight.shape, device=weight.device)
        adam, made = RowAdam.of(change, spec.rate), {}
        for step in range(1, spec.steps + 1):
            change.requires_grad_()
            losses = change.new_zeros(len(live))
            gradient = torch.zeros_like(change)
            for part in parts:
                loss = part.losses(change, len(live), spec.objective)
                losses += loss.detach()
                gradient += torch.autograd.grad(loss.sum(), change)[0]
            change = change.detach()
            low = losses < spec.stop
            self._descend(adam, change, gradient, low)
            over = low | (step == spec.steps) | ~torch.isfinite(losses)
            for i in over.nonzero()[:, 0].tolist():
                made[int(live[i])] = _edited(name, change[i].clone(), step, float(losses[i]))
            if bool(over.all()):
                break
            if bool(over.any()):
                stay = (~over).nonzero()[:, 0]
                parts = [kept for part in parts if (kept := part.select(stay)) is not None]
                live, change, adam = live[stay.cpu()], change[stay], adam.select(stay)
        return [made[i] for i in range(len(groups))]

    def _descend(self, adam: RowAdam, change: Tensor, gradient: Tensor, low: Tensor) -> None:
        """One step for every group but those whose loss is low already."""
        before = change[low].clone()
        adam.step(change, gradient)
        change[low] = before
        if self.spec.clamp is not None:
            change.clamp_(-self.spec.clamp, self.spec.clamp)

    def _parts(self, groups: Sequence[Sequence[Encoded]]) -> list["_Part"]:
        """The examples of all groups, as many a pass as the token budget holds."""
        examples = [(i, e, len(group)) for i, group in enumerate(groups) for e in group]
        room = max(1, self.model.training_budget // max(len(e.ids) for _, e, _ in examples))
        return [
            _Part.of(self.model, examples[first : first + room], self.layer)
            for first in range(0, len(examples), room)
        ]


@dataclass(frozen=True)
class _Part:
    """Some examples: row r is an example of group `group[r]` and weighs `weight[r]` in its loss."""

    tail: Tail
    examples: tuple[Encoded, ...]
    group: Tensor
    weight: Tensor

    @classmethod
    def of(
        cls, model: LanguageModel, examples: Sequence[tuple[int, Encoded, int]], layer: int
    ) -> "_Part":
        rows = [TailRow(e.ids[:-1], 0) for _, e, _ in examples]
        group = torch.tensor([i for i, _, _ in examples], device=model.device)
        weight = torch.tensor([1 / size for _, _, size in examples], device=model.device)
        return cls(Tail.of(model, rows, layer), tuple(e for _, e, _ in examples), group, weight)

    def losses(self, change: Tensor, n_groups: int, objective: str) -> Tensor:
        """Each group's loss over these examples [groups], in nats; `change` [groups, out, in]."""
        own = len(self.group) == n_groups and bool((self.group.diff() == 1).all())
        per_row = change if own else change[self.group]
        hidden = self.tail.run(self.tail.key.float() @ per_row.mT)
        at, token, row = _targets(self.examples, objective)
        logp = log_softmax(self.tail.model, hidden[row, at])
        nll = -logp.gather(1, torch.tensor(token, device=logp.device)[:, None])[:, 0]
        counts = [len(e.ids) - e.start for e in self.examples]
        share = self.weight / torch.tensor(counts, device=logp.device)
        of_row = torch.tensor(row, device=logp.device)
        return logp.new_zeros(n_groups).index_add(0, self.group[of_row], nll * share[of_row])

    def select(self, groups: Tensor) -> "_Part | None":
        """The examples of those groups, renumbered in that order; None when there are none."""
        new = torch.full((int(self.group.max()) + 1,), -1, device=self.group.device)
        known = groups[groups < len(new)]
        new[known] = torch.arange(len(groups), device=new.device)[groups < len(new)]
        rows = (new[self.group] >= 0).nonzero()[:, 0]
        if not len(rows):
            return None
        examples = tuple(self.examples[i] for i in rows.tolist())
        return _Part(self.tail.select(rows), examples, new[self.group[rows]], self.weight[rows])


def _targets(examples: Sequence[Encoded], objective: str) -> tuple[list[int], list[int], list[int]]:
    """Position, token and row of every target token."""
    at, token, row = [], [], []
    for i, example in enumerate(examples):
        for place in range(example.start, len(example.ids)):
            at.append((example.start if objective == "prompt_last" else place) - 1)
            token.append(example.ids[place])
            row.append(i)
    return at, token, row


def _encode(model: LanguageModel, group: Sequence[EditRequest]) -> list[Encoded]:
    texts = [join(request.question, request.target_new) for request in group]
    return encode(model.tokenizer, texts, [len(request.question) for request in group])


def _edited(name: str, change: Tensor, steps: int, loss: float) -> Edited:
    patch = Patch({name: Dense(change)})
    if not patch.finite:
        return Edited(steps=steps, loss=None, error=EditError("not_finite", "the change diverged"))
    return Edited(patch, steps, loss)
