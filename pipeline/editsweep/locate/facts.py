"""The rows on which a fact's value is searched: its prompt in several contexts, and its subject alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.errors import EditError
from editsweep.model.language_model import LanguageModel
from editsweep.model.tail import Tail, TailRow
from editsweep.model.tokens import encode, join, last_token


@dataclass(frozen=True, slots=True)
class FactRow:
    """A row of one fact: it changes from the subject's last token on; `targets` end it."""

    row: TailRow
    targets: tuple[int, ...] = ()


def fact_rows(
    model: LanguageModel, templates: Sequence[str], request: EditRequest
) -> list[FactRow]:
    """A row for each template, then "{subject} is a" up to the subject, for the divergence.

    Raises:
        EditError: the request has no subject, or its target no tokens.
    """
    subject = _subject(request)
    tokenizer = model.tokenizer
    rows = []
    for template in templates:
        prompt, end = _in_context(template, request)
        text = join(prompt, request.target_new)
        (joined,) = encode(tokenizer, [text], [len(prompt)])
        row = TailRow(joined.ids[:-1], last_token(tokenizer, text, end))
        rows.append(FactRow(row, joined.ids[joined.start :]))
    text = join(subject, "is a")
    place = last_token(tokenizer, text, len(subject))
    alone = tuple(tokenizer(text)["input_ids"][: place + 1])
    return [*rows, FactRow(TailRow(alone, place))]


def subject_rows(
    model: LanguageModel, templates: Sequence[str], request: EditRequest
) -> list[tuple[int, ...]]:
    """The request in each template, as token ids up to the subject's last token.

    Nothing to the right of that token has a part in what the model knows there.

    Raises:
        EditError: the request has no subject.
    """
    _subject(request)
    rows = []
    for template in templates:
        text, end = _in_context(template, request)
        ids = model.tokenizer(text)["input_ids"]
        rows.append(tuple(ids[: last_token(model.tokenizer, text, end) + 1]))
    return rows


def _subject(request: EditRequest) -> str:
    if request.subject is None:
        reason = "this editor works at a subject's last token, and this edit names no subject"
        raise EditError("no_subject", reason)
    return request.subject


def _in_context(template: str, request: EditRequest) -> tuple[str, int]:
    """The question in the template, and where its subject ends."""
    end = template.index("{}") + request.prompt.index("{}") + len(request.subject or "")
    return template.replace("{}", request.question), end


# With so few rows a pass spends its time on reading weights, and one is better than two; with more,
# the bare subjects are better off by themselves, because beside the others they are padded.
FEW_ROWS = 24


@dataclass(frozen=True)
class Facts:
    """E facts: `told` has `per_fact` rows a fact, one a template, `alone` its bare subject.

    Where `alone` is None the bare subjects are the last E rows of `told`. Column 0 is the subject's
    last token. Target `token[i]` is predicted in row `row[i]` of `told` at column `at[i]`; `share[i]`
    is one over the number of targets in that row.
    """

    told: Tail
    alone: Tail | None
    count: int
    per_fact: int
    at: Tensor
    token: Tensor
    row: Tensor
    share: Tensor

    @classmethod
    def of(cls, model: LanguageModel, facts: Sequence[Sequence[FactRow]], layer: int) -> "Facts":
        """One pass over all rows of `facts`; what `layer` and those below do is kept."""
        rows = [row for fact in facts for row in fact[:-1]]
        spots = [
            (len(r.row.ids) - len(r.targets) + k - r.row.start, token, i, 1 / len(r.targets))
            for i, r in enumerate(rows)
            for k, token in enumerate(r.targets)
        ]
        at, token, row, share = (
            torch.tensor(column, device=model.device) for column in zip(*spots, strict=True)
        )
        told, bare = [r.row for r in rows], [fact[-1].row for fact in facts]
        few = len(told) <= FEW_ROWS
        return cls(
            Tail.of(model, [*told, *bare] if few else told, layer),
            None if few else Tail.of(model, bare, layer),
            len(facts),
            len(facts[0]) - 1,
            *(at, token, row, share),
        )

    def select(self, facts: Tensor) -> "Facts":
        """Some of the facts, in that order."""
        offsets = torch.arange(self.per_fact, device=facts.device)
        rows = (facts[:, None] * self.per_fact + offsets).flatten()
        new = torch.full((len(self.told.ids),), -1, device=facts.device)
        new[rows] = torch.arange(len(rows), device=facts.device)
        keep = new[self.row] >= 0
        spots = (self.at[keep], self.token[keep], new[self.row[keep]], self.share[keep])
        if self.alone is None:
            rows = torch.cat([rows, self.count * self.per_fact + facts])
        alone = None if self.alone is None else self.alone.select(facts)
        return Facts(self.told.select(rows), alone, len(facts), self.per_fact, *spots)

    def at_subject(self, tensor: Tensor) -> Tensor:
        """[rows, columns, d] of `told` at the subject's last token, by fact [facts, per_fact, d]."""
        rows = tensor[: self.count * self.per_fact, 0]
        return rows.reshape(self.count, self.per_fact, tensor.shape[-1])


def batches(
    model: LanguageModel, facts: Mapping[int, Sequence[FactRow]], layer: int
) -> Iterator[tuple[list[int], Facts]]:
    """Facts of like length together, as many as the budget holds, none half padding."""
    for chunk in _chunks(facts, model.training_budget):
        yield chunk, Facts.of(model, [facts[i] for i in chunk], layer)


def _chunks(facts: Mapping[int, Sequence[FactRow]], budget: int) -> list[list[int]]:
    width = {i: max(len(r.row.ids) - r.row.start for r in rows) for i, rows in facts.items()}
    chunks: list[list[int]] = []
    for index in sorted(facts, key=lambda i: -width[i]):
        tokens = len(facts[index]) * width[chunks[-1][0]] if chunks else 0
        full = not chunks or (len(chunks[-1]) + 1) * tokens > budget
        if full or 2 * width[index] <= width[chunks[-1][0]]:
            chunks.append([])
        chunks[-1].append(index)
    return chunks
