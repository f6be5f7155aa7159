"""Putting probes to a model, edited row by row, and reading its answers.

Every accepted, unwanted or reference continuation is scored under teacher forcing, all in one
packed pass; greedy decoding emits a continuation exactly when each of its tokens is the
teacher-forced argmax, so an exact match needs no generation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from editsweep.core.ids import content_id
from editsweep.core.types import TEXT_AXES, Answer, EditRequest, Probe, Role, Scored
from editsweep.errors import EditError
from editsweep.model.divergence import divergences
from editsweep.model.generation import greedy, write
from editsweep.model.language_model import LanguageModel
from editsweep.model.packing import Query
from editsweep.model.patch import Patch
from editsweep.model.scoring import TokenScores, score
from editsweep.model.tokens import Encoded, encode, join

REFERENCE_TOKENS = 5
# A text for `fluency`: so long with its beginning, drawn from so many tokens (arXiv 2202.05262).
TEXT_TOKENS, TEXT_TOP_K = 100, 5


@dataclass(frozen=True)
class AskSettings:
    """Axes on which the model also speaks freely, greedily to the natural end, and its longest answer.

    With `kl` the next token's distribution is compared with the unedited model's on `locality`.
    """

    generate: tuple[str, ...] = ("reliability",)
    max_new_tokens: int = 50
    kl: bool = True


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
    moved = _moved(model, questions, patches, settings)
    found: list[list[Scored]] = [[] for _ in questions]
    for line, code, result in zip(lines, encoded, scores, strict=True):
        found[line.question].append(_scored(line, code, result))
    return [
        Answer(
            q.probe.probe_id,
            (*found[i], *_unread(q.probe)),
            said[i] if i in said else _argmax_text(model, found[i]),
            i in said,
            moved.get(i),
        )
        for i, q in enumerate(questions)
    ]


def no_room(model: LanguageModel, request: EditRequest, settings: AskSettings) -> EditError | None:
    """Why a question of `request`, with its answer, is longer than `model` reads; None if none is."""
    limit = getattr(model.module.config, "max_position_embeddings", None)
    if limit is None:
        return None
    for probe in request.all_probes:
        more = settings.max_new_tokens if probe.axis in settings.generate else REFERENCE_TOKENS
        texts = [join(probe.prompt, text) for text in (*_read(probe), *probe.unwanted)]
        for text, spoken in ((probe.prompt, more), *((text, 0) for text in texts)):
            # A token is a byte at least, so most texts need not be cut into tokens for this.
            if len(text.encode()) + spoken < limit:
                continue
            tokens = len(model.tokenizer(text, verbose=False)["input_ids"]) + spoken
            if tokens > limit:
                return EditError(
                    "too_long",
                    f"a question on {probe.axis} needs {tokens} tokens with its answer, "
                    f"{model.name} reads at most {limit}: shorten it, or choose another model",
                )
    return None


def references(model: LanguageModel, probes: Sequence[Probe]) -> list[str]:
    """What the unedited model says to each probe that names no answers, "" for the others."""
    open_ = [i for i, probe in enumerate(probes) if not _read(probe)]
    said = greedy(model, [probes[i].prompt for i in open_], [None] * len(open_), REFERENCE_TOKENS)
    by_index = dict(zip(open_, said, strict=True))
    # A model that ends at once has said "end of text", which can be scored like any token.
    return [by_index.get(i, "") or _end_of_text(model, p) for i, p in enumerate(probes)]


def _end_of_text(model: LanguageModel, probe: Probe) -> str:
    return "" if _read(probe) else str(model.tokenizer.eos_token)


def _read(probe: Probe) -> tuple[str, ...]:
    """The answers that are put to the model; texts to compare with are not."""
    return () if probe.axis == "consistency" else probe.answers


def _unread(probe: Probe) -> list[Scored]:
    """The others: kept beside what the model says, so that it can be measured again."""
    texts = probe.answers if probe.axis == "consistency" else ()
    return [Scored("text", text, (), (), ()) for text in texts]


def _lines(index: int, question: Question, prefix: str) -> list[_Line]:
    probe = question.probe
    start = prefix + probe.prompt
    named: list[tuple[Role, str]] = [("answer", text) for text in _read(probe)]
    named += [("unwanted", text) for text in probe.unwanted]
    lines = [_Line(index, role, text, join(start, text), len(start)) for role, text in named]
    if not _read(probe):
        text = question.reference
        lines.insert(0, _Line(index, "reference", text, start + text, len(start)))
    return lines


def _speak(
    model: LanguageModel,
    questions: Sequence[Question],
    patches: Sequence[Patch | None],
    settings: AskSettings,
) -> dict[int, str]:
    """What the model says of its own to some of the questions."""
    answered = [i for i, q in enumerate(questions) if q.probe.axis in settings.generate]
    said = greedy(
        model,
        [questions[i].probe.prompt for i in answered],
        [patches[questions[i].patch] for i in answered],
        settings.max_new_tokens,
        natural=True,
    )
    begun = [
        i
        for i, q in enumerate(questions)
        if q.probe.axis in TEXT_AXES and not _read(q.probe) and i not in set(answered)
    ]
    texts = write(
        model,
        [questions[i].probe.prompt for i in begun],
        [patches[questions[i].patch] for i in begun],
        TEXT_TOKENS,
        TEXT_TOP_K,
        # The same dice before and after an edit, and for every editor.
        [int(content_id([questions[i].probe.probe_id], 12), 16) for i in begun],
    )
    return dict(zip([*answered, *begun], [*said, *texts], strict=True))


def _moved(
    model: LanguageModel,
    questions: Sequence[Question],
    patches: Sequence[Patch | None],
    settings: AskSettings,
) -> dict[int, float]:
    """How far the next token's distribution is from the unedited model's, in nats."""
    asked = [i for i, q in enumerate(questions) if settings.kl and q.probe.axis == "locality"]
    found = divergences(
        model,
        [questions[i].probe.prompt for i in asked],
        [questions[i].patch for i in asked],
        patches,
    )
    return dict(zip(asked, found, strict=True))


def _scored(line: _Line, encoded: Encoded, scores: TokenScores) -> Scored:
    tokens = encoded.ids[encoded.start :]
    return Scored(line.role, line.text, tokens, scores.logprobs, scores.argmax)


def _argmax_text(model: LanguageModel, scored: Sequence[Scored]) -> str:
    text: str = model.tokenizer.decode(scored[0].argmax)
    return text


def _prefix(patch: Patch | None) -> str:
    return patch.prefix if patch else ""
