"""Sets in other languages than English: CKnowEdit and BMIKE-53."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from editsweep.core.types import EditRequest
from editsweep.data import zsre
from editsweep.data.fields import (
    Problem,
    aliases,
    inside,
    listing,
    mapping,
    needed,
    optional,
    quoted,
)
from editsweep.data.published import Published, Questions, Record, old_target, remade
from editsweep.data.reading import Note


def cknowedit(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of CKnowEdit (Fang et al. 2024), which has no subject.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    prompt, new = needed(record, "prompt"), needed(record, "target_new")
    if "{}" in prompt:
        raise Problem("prompt", "braces", f"{quoted(prompt)} has {{}} in its text")
    old = old_target(new, aliases(record.get("target_old"), "target_old"), note, "target_new")
    asked = Questions(note)
    asked.ask_all("rephrase", "paraphrase", record.get("rephrase"), [new], [old])
    for axis in ("portability", "locality"):
        for index, item in enumerate(listing(record.get(axis), axis)):
            place = f"{axis}[{index}]"
            fields = mapping(item, place)
            answers = aliases(fields.get("answer"), f"{place}.answer")
            asked.ask(place, axis, optional(fields, "prompt", place) or "", answers)
    return [EditRequest.of(None, prompt, new, old, asked.probes.values())]


def bmike(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of BMIKE-53 (Nie et al. 2025) in English, asked in both languages.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    if "en" not in record:
        raise Problem("en", "missing", "is missing; every record needs it")
    english = mapping(record["en"], "en")
    with _within("en", note) as noted:
        known = {**english, "answers": english["old"]} if english.get("old") else english
        (edit,) = zsre.edits(known, noted, "alt")
    asked = Questions(note)
    for language, fields in record.items():
        if language != "en":
            _ask_in(language, mapping(fields, language), asked)
    return [remade(edit, edit.target_new, (*edit.probes, *asked.probes.values()))]


def _ask_in(language: str, said: Record, asked: Questions) -> None:
    """What a record says in another language, with answers in that language."""
    answer, facet = optional(said, "alt", language), "cross_lingual"
    for key in ("src", "rephrase"):
        field = inside(language, key)
        asked.ask(field, "portability", optional(said, key, language), [answer], facet=facet)
    place = inside(language, "portability")
    if said.get("portability") is not None:
        further = mapping(said["portability"], place)
        question = optional(further, "New Question", place) or ""
        answers = [optional(further, "New Answer", place)]
        asked.ask(place, "portability", question, answers, facet=f"{facet}_reasoning")
    unrelated = optional(said, "loc", language)
    answers = [optional(said, "loc_ans", language)]
    asked.ask(inside(language, "loc"), "locality", unrelated, answers, facet=facet)


@contextmanager
def _within(place: str, note: Note) -> Iterator[Note]:
    """A `note` for a part of a record, which names its fields from the whole."""

    def noted(field: str, kind: str, message: str) -> None:
        note(inside(place, field), kind, message)

    try:
        yield noted
    except Problem as problem:
        field = inside(place, problem.field)
        raise Problem(field, problem.kind, problem.message) from problem


CKNOWEDIT = Published(cknowedit, "CKnowEdit of EasyEdit", "MIT (EasyEdit, which carries it)")
BMIKE_53 = Published(bmike, "BMIKE-53 (MultiKnow)", "MIT")
