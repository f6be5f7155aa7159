"""One edit on the spot: what the model says before and after, on the axes that can be derived."""

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from editsweep.core.types import AXES, EditRequest, Probe
from editsweep.editors.base import EditorSpec
from editsweep.errors import ConfigError
from editsweep.model.asking import AskSettings, Question, ask
from editsweep.model.cache import cache_root
from editsweep.model.generation import greedy
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch
from editsweep.run.assets import asset_folder, built
from editsweep.run.plan import recipes_of
from editsweep.run.resolve import ModelUse, Source
from editsweep.run.untrained import how_to_train, is_untrained

HOME = Source("world", "test")
SAID_TOKENS = 5
TEXT_TOKENS = 24

# Of what nobody expects to change: prompt and its usual answer.
KNOWN = (
    ("The capital of Italy is", "Rome"),
    ("The capital of Japan is", "Tokyo"),
    ("The chemical symbol for gold is", "Au"),
    ("The largest planet in the solar system is", "Jupiter"),
)
_BRACES = re.compile(r"\{([^{}]*)\}")
_NOUN_OF = re.compile(r"[Tt]he (.+) of (.+) is")
_END_OF_NAME = re.compile(r"[\n.,;:!?。，！？]")


@dataclass(frozen=True)
class Line:
    """One probe, before and after: greedy text, and the probability of the new and old answer.

    `wanted` is the answer that should be likely after the edit, `other` the one that should not;
    an empty one was not asked for, and its probabilities are None.
    """

    axis: str
    prompt: str
    wanted: str
    other: str
    said: tuple[str, str]
    p_wanted: tuple[float | None, float | None]
    p_other: tuple[float | None, float | None]


@dataclass(frozen=True)
class OneEdit:
    """The whole answer; `text` is a longer continuation of the prompt before and after.

    `patch` is None where the edit failed or changed nothing.
    """

    request: EditRequest
    error: str
    steps: int | None
    lines: tuple[Line, ...]
    text: tuple[str, str]
    patch: Patch | None = None


def parse_prompt(text: str) -> tuple[str | None, str]:
    """`The capital of {France} is` as subject and prompt with `{}`.

    Raises:
        ConfigError: there is more than one pair of braces, or nothing in it.
    """
    found = _BRACES.findall(text)
    rest = _BRACES.sub("", text)
    if not found and not {"{", "}"} & set(text):
        return None, text.strip()
    if len(found) != 1 or not found[0].strip() or {"{", "}"} & set(rest):
        raise ConfigError(
            f"{text!r}: put the subject, and nothing else, in one pair of braces, e.g. "
            '"The capital of {France} is"'
        )
    return found[0].strip(), _BRACES.sub("{}", text).strip()


def derive(subject: str | None, prompt: str, new: str, old: str | None) -> EditRequest:
    """The request with the probes that can be had without knowing what it is about."""
    request = EditRequest.of(subject, prompt, new, old)
    unwanted = () if old is None else (old,)
    probes = [Probe.of("paraphrase", text, (new,), unwanted) for text in _rephrased(request)]
    words = f"{request.question} {new}"
    probes += [
        Probe.of("locality", question, (answer,), (new,))
        for question, answer in KNOWN
        if answer not in words and question != request.question
    ]
    return EditRequest.of(subject, prompt, new, old, probes)


def edit_once(
    model: LanguageModel,
    use: ModelUse,
    spec: EditorSpec,
    text: str,
    new: str,
    seed: int = 0,
    cache: Path | None = None,
) -> OneEdit:
    """Edit, and ask before and after; the model is as it was afterwards.

    Raises:
        ConfigError: `text` has no subject in braces where the editor needs one, or is wrong.
    """
    subject, prompt = parse_prompt(text)
    question = prompt if subject is None else prompt.replace("{}", subject)
    (said,) = greedy(model, [question], [None], SAID_TOKENS)
    old = _END_OF_NAME.split(said.strip())[0].strip() or None
    request = derive(subject, prompt, new, None if old == new else old)
    editor = built(spec, recipes_of(spec, HOME, use), model, cache or cache_root())
    (edited,) = editor.edit([[request]], seed)
    after = edited.patch if edited.error is None else None
    patches: list[Patch | None] = [None, after]
    texts = greedy(model, [question] * 2, patches, TEXT_TOKENS)
    return OneEdit(
        request,
        "" if edited.error is None else str(edited.error),
        edited.steps,
        _lines(model, request, patches),
        (texts[0], texts[1]),
        after,
    )


def at_hand(spec: EditorSpec, use: ModelUse, cache: Path | None = None) -> tuple[EditorSpec, bool]:
    """The spec with `moment: identity` in place of a second moment that is yet to be measured.

    That takes longer than a person at a terminal waits, so it is done for editors to which only the
    direction of C⁻¹k matters. The second value says whether it was done.
    """
    known: Any = spec
    recipe = recipes_of(spec, HOME, use).get("moment")
    if recipe is None or not getattr(known, "scale_free", False):
        return spec, False
    if asset_folder(cache or cache_root(), recipe.key).exists():
        return spec, False
    return replace(known, moment="identity"), True


def check_trained(
    editor: str, spec: EditorSpec, use: ModelUse, cache: Path | None = None, home: Source = HOME
) -> None:
    """A person at a terminal does not wait for a training.

    Raises:
        ConfigError: the editor's network is not in the cache; the message says how to train it.
    """
    for recipe in recipes_of(spec, home, use).values():
        if is_untrained(recipe, cache):
            raise ConfigError(
                f"{editor} has no trained network for {use.entry.name} yet. "
                + how_to_train(editor, spec, recipe, use)
            )


def _lines(
    model: LanguageModel, request: EditRequest, patches: list[Patch | None]
) -> tuple[Line, ...]:
    """Every probe put to the unedited and to the edited model, in one batch."""
    probes = request.all_probes
    questions = [Question(probe, patch) for patch in (0, 1) for probe in probes]
    answers = ask(model, questions, patches, AskSettings(AXES, SAID_TOKENS))
    lines = []
    for index, probe in enumerate(probes):
        before, after = answers[index], answers[index + len(probes)]
        chances = [
            {s.role: _chance(s.logprobs) for s in reversed(answer.scored)}
            for answer in (before, after)
        ]
        lines.append(
            Line(
                probe.axis,
                probe.prompt,
                probe.answers[0],
                next(iter(probe.unwanted), ""),
                (before.said, after.said),
                (chances[0].get("answer"), chances[1].get("answer")),
                (chances[0].get("unwanted"), chances[1].get("unwanted")),
            )
        )
    return tuple(lines)


def _chance(logprobs: tuple[float, ...]) -> float:
    """Probability of the whole continuation."""
    return math.exp(sum(logprobs))


def _rephrased(request: EditRequest) -> list[str]:
    """The question in other words that fit any statement, and as a question where it is one."""
    question = request.question
    lower = question[:1].lower() + question[1:] if question.split(" ")[0] in _LOWERED else question
    texts = [f"As everybody knows, {lower}", f"Fill in the missing word. {question}"]
    if found := _NOUN_OF.fullmatch(question):
        texts.insert(0, f"Question: What is the {found[1]} of {found[2]}? Answer:")
    return texts


_LOWERED = {"The", "A", "An", "In", "At", "It", "He", "She", "They", "His", "Her", "Its", "Their"}
