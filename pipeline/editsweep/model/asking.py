"""Putting probes to a model, edited row by row, and reading its answers.

Every accepted, unwanted or reference continuation is scored under teacher forcing, all in one
packed pass; greedy decoding emits a continuation exactly when each of its tokens is the
teacher-forced argmax, so an exact match needs no generation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from editsweep.core.types import Answer, Probe, Role, Scored
from editsweep.model.generation import greedy
from editsweep.model.language_model import LanguageModel
from editsweep.model.packing import Query
from editsweep.model.patch import Patch
from editsweep.model.scoring import TokenScores, score
from editsweep.model.tokens import Encoded, encode, join

REFERENCE_TOKENS = 5


@dataclass(frozen=True)
class AskSettings:
    """Axes on which the model also speaks freely (greedy), and how many tokens it may use."""

    generate: tuple[str, ...] = ("reliability",)
    max_new_tokens: int = 8


@dataclass(frozen=True, slots=True)
class Question:
    """A probe put to patch number `patch`; `reference` is what the unedited model said to it.

    The reference, with its leading space, is scored when the probe names no answers.
    """

    probe: Probe
    patch: int = 0
    reference: str = ""


@dataclass(frozen=True, slots=True)
class _Line:
    question: int
    role: Role
    text: str
    full: str
    cut: int


def ask(
    model: LanguageModel,
    questions: Sequence[Question],
    patches: Sequence[Patch | None],
    settings: AskSettings,
) -> list[Answer]:
    """One answer a question, in order.

    Raises:
        EditError: a prompt or a continuation has no tokens.
    """
    lines = [
        line
        for index, question in enumerate(questions)
        for line in _lines(index, question, _prefix(patches[question.patch]))
    ]
    encoded = encode(model.tokenizer, [x.full for x in lines], [x.cut for x in lines])
    queries = [
        Query(questions[x.question].patch, e.ids, e.start)
        for x, e in zip(lines, encoded, strict=True)
    ]
    scores = score(model, queries, patches)
    said = _speak(model, questions, patches, settings)
    found: list[list[Scored]] = [[] for _ in questions]
    for line, code, result in zip(lines, encoded, scores, strict=True):
        found[line.question].append(_scored(line, code, result))
    return [
        Answer(q.probe.probe_id, tuple(found[i]), said.get(i) or _argmax_text(model, found[i]))
        for i, q in enumerate(questions)
    ]


def references(model: LanguageModel, probes: Sequence[Probe]) -> list[str]:
    """What the unedited model says to each probe that names no answers, "" for the others."""
    open_ = [i for i, probe in enumerate(probes) if not probe.answers]
    said = greedy(model, [probes[i].prompt for i in open_], [None] * len(open_), REFERENCE_TOKENS)
    by_index = dict(zip(open_, said, strict=True))
    # A model that ends at once has said "end of text", which can be scored like any token.
    return [by_index.get(i, "") or _end_of_text(model, p) for i, p in enumerate(probes)]


def _end_of_text(model: LanguageModel, probe: Probe) -> str:
    return "" if probe.answers else str(model.tokenizer.eos_token)


def _lines(index: int, question: Question, prefix: str) -> list[_Line]:
    probe = question.probe
    start = prefix + probe.prompt
    named: list[tuple[Role, str]] = [("answer", text) for text in probe.answers]
    named += [("unwanted", text) for text in probe.unwanted]
    lines = [_Line(index, role, text, join(start, text), len(start)) for role, text in named]
    if not probe.answers:
        text = question.reference
        lines.insert(0, _Line(index, "reference", text, start + text, len(start)))
    return lines


def _speak(
    model: LanguageModel,
    questions: Sequence[Question],
    patches: Sequence[Patch | None],
    settings: AskSettings,
) -> dict[int, str]:
    chosen = [i for i, q in enumerate(questions) if q.probe.axis in settings.generate]
    said = greedy(
        model,
        [questions[i].probe.prompt for i in chosen],
        [patches[questions[i].patch] for i in chosen],
        settings.max_new_tokens,
    )
    return dict(zip(chosen, said, strict=True))


def _scored(line: _Line, encoded: Encoded, scores: TokenScores) -> Scored:
    tokens = encoded.ids[encoded.start :]
    return Scored(line.role, line.text, tokens, scores.logprobs, scores.argmax)


def _argmax_text(model: LanguageModel, scored: Sequence[Scored]) -> str:
    text: str = model.tokenizer.decode(scored[0].argmax)
    return text


def _prefix(patch: Patch | None) -> str:
    return patch.prefix if patch else ""
