"""Published benchmarks in their own structure, read from the files that a user has of them.

What is wrong with published records is known, and users cannot mend it. So a record is left out
only where no edit can be made of it (or all of it was there before); whatever else is wrong with
one that is kept is noted, counted and told. The kinds of notes:

    no_op           the new target is one of the true ones; the edit is asked without an old one
    no_subject      the subject does not stand in the prompt; the edit has none
    many_subjects   the subject stands there more than once; the first place is taken
    empty           a question or another text says nothing; the probe is left out
    no_answers      a probe has a question and no answer; it is left out
    answer_is_target a question that excludes the new target accepts it; that answer is taken out
    short_alias     an accepted answer is a code or a flag; it is accepted
    several_queries a test asks more than one question; each is a probe
    condition_is_test a test of the new fact needs the unedited model to pass it; it is kept so
    duplicate_probe the same question with the same answers again; it is left out
    unpaired        a list of questions and one of answers differ in length; the rest is left out
    repeated, contradiction   an earlier record edits the same fact, to the same or another target
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from editsweep.core.types import CONDITION, Axis, EditRequest, Probe
from editsweep.data.dataset import Read
from editsweep.data.fields import Problem, clean, listing, mapping, optional, quoted, same_text
from editsweep.data.reading import Note, Unfold, lenient, read_requests
from editsweep.errors import DataError

Record = Mapping[str, Any]


def records(value: Any) -> Iterator[tuple[str, Any]]:
    """The records in a value: itself, the rows of an object of columns, or the one list in it.

    Raises:
        Problem: the columns differ in length.
    """
    columns = isinstance(value, dict) and list(value.values())
    if not columns or not all(isinstance(column, list) for column in columns):
        yield "", value
    elif len(columns) == 1 and all(isinstance(row, dict) for row in columns[0]):
        (name,) = value
        for index, row in enumerate(columns[0]):
            yield f"{name}[{index}]", row
    elif len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in value.items())
        raise Problem("", "wrong_type", f"an object of columns of different lengths ({lengths})")
    else:
        for index, row in enumerate(zip(*columns, strict=True)):
            yield f"[{index}]", dict(zip(value, row, strict=True))


@dataclass(frozen=True)
class Published:
    """A loader for one structure.

    `edits` makes the requests of one record, `unfold` finds the records in a value of the file, and
    `finish` sees all requests at once, for what one takes from others; it keeps their number.
    """

    edits: Callable[[Record, Note], Iterable[EditRequest]]
    source: str
    licence: str
    splits: tuple[str, ...] = ("all",)
    unfold: Unfold = records
    finish: Callable[[tuple[EditRequest, ...]], tuple[EditRequest, ...]] = tuple

    def read(self, split: str, path: Path | None, skip_bad: bool) -> Read:
        """All records of the file at `path`.

        Raises:
            DataError: there is no path, or the file is damaged or holds bad records and not
                `skip_bad`.
        """
        if path is None:
            raise DataError(f"it is not shipped: give a file of it ({self.source})")
        read = read_requests(path, self._parse, lenient, skip_bad, self.unfold)
        return replace(read, requests=self.finish(read.requests))

    def _parse(self, value: Any, note: Note) -> Iterable[EditRequest]:
        return self.edits(mapping(value, ""), note)


class Questions:
    """The probes of one record, in order; what cannot be asked is noted."""

    def __init__(self, note: Note) -> None:
        self.note = note
        self.probes: dict[str, Probe] = {}

    def ask(
        self,
        field: str,
        axis: Axis,
        prompt: str | None,
        answers: Iterable[str | None] | None,
        unwanted: Iterable[str | None] = (),
        facet: str = "",
        needs: Iterable[str] = (),
    ) -> None:
        """Add a probe that `field` of the record holds; a prompt of None is no probe at all.

        Answers of None stand for what the unedited model says. What is both wanted and unwanted is
        only wanted.
        """
        if prompt is None:
            return
        wanted = [text for text in answers or () if text]
        if not prompt:
            self.note(field, "empty", "the question says nothing; it is left out")
        elif not wanted and answers is not None:
            self.note(field, "no_answers", "the question has no answer; it is left out")
        else:
            taken = {same_text(text) for text in wanted}
            other = [text for text in unwanted if text and same_text(text) not in taken]
            self._add(field, Probe.of(axis, prompt, wanted, other, facet, needs))

    def condition(self, prompt: str, answers: Iterable[str]) -> str:
        """The id of a probe that others need; several may need the same."""
        probe = Probe.of(CONDITION, prompt, answers)
        self.probes[probe.probe_id] = probe
        return probe.probe_id

    def ask_all(
        self,
        field: str,
        axis: Axis,
        prompts: Any,
        answers: Iterable[str | None] | None,
        unwanted: Iterable[str | None] = (),
        facet: str = "",
    ) -> None:
        """Add a probe for each prompt of a list that `field` holds, or for the one that it is.

        Raises:
            Problem: there is something else in it.
        """
        if isinstance(prompts, str):
            self.ask(field, axis, clean(prompts, field, empty=True), answers, unwanted, facet)
            return
        for index, prompt in enumerate(listing(prompts, field)):
            place = f"{field}[{index}]"
            self.ask(place, axis, clean(prompt, place, empty=True), answers, unwanted, facet)

    def _add(self, field: str, probe: Probe) -> None:
        if probe.probe_id in self.probes:
            self.note(field, "duplicate_probe", "asks the same again; it is asked once")
        self.probes[probe.probe_id] = probe


def template(prompt: str, subject: str | None, note: Note, field: str) -> tuple[str | None, str]:
    """Subject and prompt of an edit, with `{}` where the subject stands; None if it does not.

    Whole words come before parts of words.

    Raises:
        Problem: the prompt has braces of its own, which would be taken for the subject's place.
    """
    if "{}" in prompt:
        raise Problem(field, "braces", f"{quoted(prompt)} has {{}} in its text")
    if not subject:
        return None, prompt
    places = [m.span() for m in re.finditer(re.escape(subject), prompt)]
    if not places:
        note(field, "no_subject", f"{quoted(prompt)} does not hold the subject {quoted(subject)}")
        return None, prompt
    whole = [m.span() for m in re.finditer(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt)]
    if len(whole or places) > 1:
        note(
            field,
            "many_subjects",
            f"{quoted(prompt)} holds the subject {quoted(subject)} more than once",
        )
    start, end = (whole or places)[0]
    return subject, prompt[:start] + "{}" + prompt[end:]


def old_target(new: str, truth: Iterable[str], note: Note, field: str) -> str | None:
    """The first of the true answers, or None if there is none or `new` is one of them."""
    known = list(truth)
    if same_text(new) in {same_text(text) for text in known}:
        note(
            field,
            "no_op",
            f"{quoted(new)} is a true answer already; it is asked without an old one",
        )
        return None
    return known[0] if known else None


def remade(request: EditRequest, target_new: str, probes: Iterable[Probe]) -> EditRequest:
    """The same edit to another target and with other probes, under its own id."""
    return EditRequest.of(
        request.subject,
        request.prompt,
        target_new,
        request.target_true,
        probes,
        request.relation,
        request.case,
    )


def hop(record: Record, asked: Questions) -> None:
    """The question in `portability` that goes one step further, as EasyEdit writes it.

    Raises:
        Problem: it is there and is something else.
    """
    place = "portability"
    if record.get(place) is not None:
        further = mapping(record[place], place)
        question = optional(further, "New Question", place) or ""
        answer = optional(further, "New Answer", place)
        asked.ask(f"{place}.New Question", "portability", question, [answer], facet="reasoning")
