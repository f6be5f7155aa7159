"""From an edit request to what training reads: the edit, what it should change, what not."""

from collections.abc import Sequence
from dataclasses import dataclass

from editsweep.core.types import EditRequest, Probe
from editsweep.errors import EditError
from editsweep.model.language_model import LanguageModel
from editsweep.model.tokens import Encoded, encode, join

WANTED = ("reliability", "paraphrase", "portability")
"""Axes on which the edited model should say the new answer."""


@dataclass(frozen=True)
class Line:
    """A row of tokens and what is asked of it.

    `at` are the positions whose prediction counts, `tokens` what should be predicted there (for
    locality: what is predicted there is whatever the unedited model predicts).
    """

    axis: str
    ids: tuple[int, ...]
    at: tuple[int, ...]
    tokens: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Example:
    """One edit with its lines; the weights of the wanted ones sum to 1, and so do the others'."""

    edit: Encoded
    wanted: tuple[Line, ...]
    kept: tuple[Line, ...]

    @property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """Every row of tokens that training puts to the model."""
        return (self.edit.ids[:-1], *(line.ids for line in (*self.wanted, *self.kept)))


def examples(
    model: LanguageModel, requests: Sequence[EditRequest]
) -> tuple[list[Example], list[EditRequest]]:
    """What can be learnt from `requests`, and those from which nothing can.

    An edit is learnt from when it has a paraphrase or a portability probe and a locality probe:
    from its own prompt alone a network would learn to repeat, not to generalise.
    """
    made, left = [], []
    for request in requests:
        try:
            example = _example(model, request)
        except EditError:
            example = None
        if example is None:
            left.append(request)
        else:
            made.append(example)
    return made, left


def encode_edit(model: LanguageModel, request: EditRequest) -> Encoded:
    """The edit's question with its new target behind.

    Raises:
        EditError: one of them has no tokens.
    """
    (edit,) = encode(
        model.tokenizer, [join(request.question, request.target_new)], [len(request.question)]
    )
    return edit


def _example(model: LanguageModel, request: EditRequest) -> Example | None:
    wanted = [p for p in request.all_probes if p.axis in WANTED and p.answers]
    kept = [p for p in request.probes if p.axis == "locality"]
    if not kept or not any(p.axis != "reliability" for p in wanted):
        return None
    edit = encode_edit(model, request)
    axes = [p.axis for p in wanted]
    share = [1 / (len(set(axes)) * axes.count(axis)) for axis in axes]
    return Example(
        edit,
        tuple(_line(model, p, weight) for p, weight in zip(wanted, share, strict=True)),
        tuple(_line(model, p, 1 / len(kept)) for p in kept),
    )


def _line(model: LanguageModel, probe: Probe, weight: float) -> Line:
    """A probe with its first answer; one without answers counts where its answer would begin."""
    if not probe.answers:
        ids = tuple(model.tokenizer(probe.prompt)["input_ids"])
        return Line(probe.axis, ids, (len(ids) - 1,), (-1,), weight)
    text = join(probe.prompt, probe.answers[0])
    (row,) = encode(model.tokenizer, [text], [len(probe.prompt)])
    at = tuple(range(row.start - 1, len(row.ids) - 1))
    return Line(probe.axis, row.ids[:-1], at, row.ids[row.start :], weight)
