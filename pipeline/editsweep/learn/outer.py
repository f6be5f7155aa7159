"""The outer loss: what the edited model should now say, and what it should say as before.

L = Σ_wanted w · NLL(answer | edited) + c · Σ_kept w · KL(unedited ‖ edited), per edit, both in nats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from editsweep.learn.changes import Proposals, proposed
from editsweep.learn.examples import WANTED, Example, Line
from editsweep.model.language_model import LanguageModel
from editsweep.model.scoring import log_softmax
from editsweep.model.upper import Below, TokenRows, Tokens, run_upper


@dataclass(frozen=True)
class Tally:
    """Sums over lines: weighted losses, and by axis how many lines came out right.

    A wanted line is right when each token is the argmax, a kept one counts the share of positions
    whose argmax is the unedited model's.
    """

    wanted: float = 0.0
    kept: float = 0.0
    right: dict[str, float] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: "Tally") -> "Tally":
        """Both together."""
        axes = {**self.lines, **other.lines}
        return Tally(
            self.wanted + other.wanted,
            self.kept + other.kept,
            {a: self.right.get(a, 0.0) + other.right.get(a, 0.0) for a in axes},
            {a: self.lines.get(a, 0) + other.lines.get(a, 0) for a in axes},
        )

    def rates(self) -> dict[str, float]:
        """The share of right lines by axis."""
        return {axis: self.right[axis] / count for axis, count in sorted(self.lines.items())}


@dataclass
class Outer:
    """Computes the outer loss of groups under proposals; what the unedited model says is kept."""

    below: Below
    _base: dict[tuple[Tokens, Tokens], Tensor] = field(default_factory=dict)

    @property
    def model(self) -> LanguageModel:
        """The unedited model."""
        return self.below.model

    def add_gradients(
        self,
        proposals: Proposals,
        groups: Sequence[Sequence[Example]],
        kept_weight: float,
        scale: float,
    ) -> Tally:
        """Add the gradient of `scale` · Σ_groups loss to the proposals' tensors, which are leaves."""
        total = Tally()
        for part in _parts(groups, self.model.training_budget):
            wanted, kept, tally = self._losses(proposals, part)
            ((wanted + kept_weight * kept) * scale).backward()
            total += tally
        return total

    @torch.no_grad()
    def tally(self, proposals: Proposals, groups: Sequence[Sequence[Example]]) -> Tally:
        """The same without gradients."""
        total = Tally()
        for part in _parts(groups, self.model.token_budget):
            total += self._losses(proposals, part)[2]
        return total

    def _losses(
        self, proposals: Proposals, part: Sequence[tuple[int, float, Line]]
    ) -> tuple[Tensor, Tensor, Tally]:
        lines = [line for _, _, line in part]
        final = self._final(lines, proposals, [group for group, _, _ in part])
        places = [(i, spot) for i, line in enumerate(lines) for spot in range(len(line.at))]
        logp = log_softmax(
            self.model, final[[i for i, _ in places], [lines[i].at[s] for i, s in places]]
        )
        device = logp.device
        token = torch.tensor([max(0, lines[i].tokens[s]) for i, s in places], device=device)
        kept = torch.tensor([lines[i].axis not in WANTED for i, _ in places], device=device)
        share = torch.tensor([part[i][1] / len(lines[i].at) for i, _ in places], device=device)
        nll = -logp.gather(1, token[:, None])[:, 0]
        wanted_loss = (nll * share)[~kept].sum()
        base = self._base_logp([line for line in lines if line.axis not in WANTED])
        divergence = (base.exp() * (base - logp[kept])).sum(-1)
        kept_loss = (divergence * share[kept]).sum()
        right = logp.argmax(-1) == token
        right[kept] = logp[kept].argmax(-1) == base.argmax(-1)
        return wanted_loss, kept_loss, _tally(lines, places, right, wanted_loss, kept_loss)

    def _final(self, lines: Sequence[Line], proposals: Proposals, groups: Sequence[int]) -> Tensor:
        ids = [line.ids for line in lines]
        rows = TokenRows.of(self.model, ids)
        hidden = self.below.hidden(ids)
        with proposed(self.model, proposals, torch.tensor(groups, device=hidden.device)):
            return run_upper(self.model, rows, hidden, self.below.first)

    @torch.no_grad()
    def _base_logp(self, lines: Sequence[Line]) -> Tensor:
        """What the unedited model says at the lines' positions [positions, vocabulary]."""
        for line in lines:
            if _key(line) not in self._base:
                # One at a time: what a line gives must not depend on who asked beside it.
                rows, hidden = TokenRows.of(self.model, [line.ids]), self.below.hidden([line.ids])
                final = run_upper(self.model, rows, hidden, self.below.first)
                self._base[_key(line)] = final[0, list(line.at)]
        found = [self._base[_key(line)] for line in lines]
        empty = torch.zeros(0, self._width, device=self.model.device, dtype=self.model.module.dtype)
        return log_softmax(self.model, torch.cat(found or [empty]))

    @property
    def _width(self) -> int:
        width: int = self.model.module.get_input_embeddings().weight.shape[1]
        return width


def _key(line: Line) -> tuple[Tokens, Tokens]:
    return line.ids, line.at


def _parts(
    groups: Sequence[Sequence[Example]], budget: int
) -> Iterator[list[tuple[int, float, Line]]]:
    """Lines with their group and weight, of like length together, under a budget of tokens."""
    lines = [
        (g, line.weight / len(group), line)
        for g, group in enumerate(groups)
        for example in group
        for line in (*example.wanted, *example.kept)
    ]
    part: list[tuple[int, float, Line]] = []
    for entry in sorted(lines, key=lambda e: -len(e[2].ids)):
        if part and (len(part) + 1) * len(part[0][2].ids) > budget:
            yield part
            part = []
        part.append(entry)
    if part:
        yield part


def _tally(
    lines: Sequence[Line],
    places: Sequence[tuple[int, int]],
    right: Tensor,
    wanted: Tensor,
    kept: Tensor,
) -> Tally:
    hits = [0] * len(lines)
    for (i, _), hit in zip(places, right.tolist(), strict=True):
        hits[i] += hit
    tally = Tally(float(wanted.detach()), float(kept.detach()))
    for line, hit in zip(lines, hits, strict=True):
        value = float(hit == len(line.at)) if line.axis in WANTED else hit / len(line.at)
        tally.right[line.axis] = tally.right.get(line.axis, 0.0) + value
        tally.lines[line.axis] = tally.lines.get(line.axis, 0) + 1
    return tally
