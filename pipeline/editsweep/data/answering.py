"""Sets whose edits are questions with their answers: QAEdit, UnKE and WikiBigEdit.

Copies of them differ in the names of fields and in whether a text stands alone or in a list, so
each field has several names here, of which the first that is there counts, and may be either.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from editsweep.core.types import EditRequest
from editsweep.data.fields import (
    Problem,
    aliases,
    inside,
    listing,
    mapping,
    optional,
    seen,
)
from editsweep.data.published import Published, Questions, Record, old_target, template
from editsweep.data.reading import Note

_PROMPT = ("prompt", "update", "src", "question")
_TARGET = ("target", "target_new", "ans", "alt", "answer")
_TRUTH = ("ground_truth", "target_true")
_REPHRASE = ("rephrase", "rephrase_prompt", "rephrase_prompts", "paraphrase", "para_question")
_PERSONA = ("personas", "portability_personas")
_HOP, _HOP_ANSWER = ("mhop", "portability_hop"), ("mhop_ans", "portability_hop_ans")
_SUB, _SUB_ANSWER = ("sub_question", "sub_questions"), ("sub_answer", "sub_answers")
_ASKED = ("loc", "prompt", "question", "locality_prompt", "locality")
_KEPT = ("loc_ans", "ground_truth", "answer", "locality_ground_truth", "locality_ans")


def qaedit(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of QAEdit (Yang et al. 2025): a question that a model got wrong.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    return [_edit(record, note, "unrelated")]


def wikibigedit(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of WikiBigEdit (Thede et al. 2025): a fact that Wikidata changed.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    return [_edit(record, note, "neighbourhood")]


def unke(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of UnKE (Deng et al. 2024): a text for a question, without a subject.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    return [_edit(record, note, "unrelated", text=True)]


def _edit(record: Record, note: Note, kept: str, text: bool = False) -> EditRequest:
    """The edit of a record; with `text` the target is one to be compared as a whole too."""
    place = _name(record, _PROMPT)
    _, (question, *_) = _said(record, _PROMPT)
    subject, prompt = template(question, optional(record, "subject"), note, place)
    target, accepted = _said(record, _TARGET)
    _, truth = _texts(record, _TRUTH)
    new, old = accepted[0], old_target(accepted[0], truth, note, target)
    asked = Questions(note)
    for names, facet in ((_REPHRASE, ""), (_PERSONA, "persona")):
        field, prompts = _prompts(record, names)
        asked.ask_all(field, "paraphrase", prompts, accepted, [old], facet)
    hop, further = _prompts(record, _HOP)
    asked.ask_all(hop, "portability", further, _texts(record, _HOP_ANSWER)[1], facet="multi_hop")
    _parts(record, asked)
    for place, fields in _locality(record):
        field, prompts = _prompts(fields, _ASKED, place)
        if place and not prompts:
            note(field, "empty", "there is no question; it is left out")
        asked.ask_all(field, "locality", prompts, _texts(fields, _KEPT, place)[1], (), kept)
    if text:
        asked.ask(target, "consistency", question, [new])
    relation = optional(record, "relation") or (prompt if subject else "")
    return EditRequest.of(subject, prompt, new, old, asked.probes.values(), relation)


def _parts(record: Record, asked: Questions) -> None:
    """Questions about parts of a text, each with the answer in the same place of the other list."""
    field, questions = _prompts(record, _SUB)
    answers = _value(record, _SUB_ANSWER)
    answers = answers if isinstance(answers, list) else [answers]
    if len(questions) != len(answers) and questions:
        told = f"{len(questions)} questions and {len(answers)} answers; those without a partner go"
        asked.note(field, "unpaired", told)
    for index, (question, answer) in enumerate(zip(questions, answers, strict=False)):
        place = f"{field}[{index}]"
        asked.ask_all(place, "portability", question, aliases(answer, place), facet="sub_question")


def _locality(record: Record) -> Iterator[tuple[str, Record]]:
    """What is asked of other things, each with the name of its place.

    It stands in the record itself, or under `locality` as an object, a list of them, or lists of
    them by kind.
    """
    inner = record.get("locality")
    if not isinstance(inner, (dict, list)) or "locality_ans" in record:
        own = {"prompt", "question", "ground_truth", "answer"}
        yield "", {key: value for key, value in record.items() if key not in own}
        return
    one = isinstance(inner, list) or bool(_name(inner, _ASKED))
    groups: dict[str, Any] = {"": inner} if one or not isinstance(inner, dict) else inner
    for kind, group in groups.items():
        place = inside("locality", kind)
        if isinstance(group, dict):
            yield place, group
            continue
        for index, item in enumerate(listing(group, place)):
            yield f"{place}[{index}]", mapping(item, f"{place}[{index}]")


def _name(record: Record, names: Iterable[str]) -> str:
    """The first of `names` under which something stands, or ""."""
    return next((name for name in names if not _nothing(record.get(name))), "")


def _nothing(value: Any) -> bool:
    """Null, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and value != value)


def _value(record: Record, names: tuple[str, ...]) -> Any:
    found = _name(record, names)
    return record[found] if found else None


def _said(record: Record, names: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The field's name and its texts, of which there has to be one.

    Raises:
        Problem: there is none.
    """
    field, found = _texts(record, names)
    if not _name(record, names):
        raise Problem(names[0], "missing", f"is missing (or {', '.join(names[1:])}); write a text")
    if not found:
        raise Problem(field, "empty", f"{seen(record[field])} says nothing; write some text")
    return field, found


def _texts(record: Record, names: tuple[str, ...], place: str = "") -> tuple[str, tuple[str, ...]]:
    """A field's name and its texts, however they are nested."""
    name = _name(record, names) or names[0]
    field = inside(place, name)
    return field, aliases(_value(record, names), field)


def _prompts(record: Record, names: tuple[str, ...], place: str = "") -> tuple[str, list[Any]]:
    """A field's name and the questions in it."""
    name = _name(record, names) or names[0]
    value = _value(record, names)
    field = inside(place, name)
    return field, [value] if isinstance(value, str) else listing(value, field)


QAEDIT = Published(qaedit, "QAEdit.json of the paper's repository", "not stated")
UNKE = Published(unke, "final_data_v3.json of UnKE", "not stated")
WIKIBIGEDIT = Published(
    wikibigedit, "wiki_big_edit_*.json of lukasthede/WikiBigEdit on the hub", "Apache-2.0"
)
