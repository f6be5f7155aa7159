"""Published benchmarks in their own structure, read from the files that a user has of them.

What is wrong with published records is known, and users cannot mend it. So a record is left out
only where no edit can be made of it (or all of it was there before); whatever else is wrong with
one that is kept is noted, counted and told. The kinds of notes:

    no_op           the new target is one of the true ones; the edit is asked without an old one
    no_subject      the subject does not stand in the prompt; the edit has none
    many_subjects   the subject stands there more than once; the first place is taken
    empty           a question or another text says nothing; the probe is left out
    no_answers      a probe has a question and no answer; it is left out
    duplicate_probe the same question with the same answers again; it is left out
    repeated, contradiction   an earlier record edits the same fact, to the same or another target
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editsweep.core.types import Axis, EditRequest, Probe
from editsweep.data.dataset import Read
from editsweep.data.fields import Problem, mapping, same_text
from editsweep.data.reading import Note, lenient, read_requests
from editsweep.errors import DataError

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """A loader for one structure; `edits` makes the requests of one record of a file."""

    edits: Callable[[Record, Note], Iterable[EditRequest]]
    source: str
    licence: str
    splits: tuple[str, ...] = ("all",)

    def read(self, split: str, path: Path | None, skip_bad: bool) -> Read:
        """All records of the file at `path`.

        Raises:
            DataError: there is no path, or the file is damaged or holds bad records and not
                `skip_bad`.
        """
        if path is None:
            raise DataError(f"it is not shipped: give a file of it ({self.source})")
        return read_requests(path, self._parse, lenient, skip_bad)

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
        answers: Iterable[str | None],
        unwanted: Iterable[str | None] = (),
        facet: str = "",
    ) -> None:
        """Add a probe that `field` of the record holds; a prompt of None is no probe at all.

        What is both wanted and unwanted is only wanted.
        """
        if prompt is None:
            return
        wanted = [text for text in answers if text]
        if not prompt:
            self.note(field, "empty", "the question says nothing; it is left out")
        elif not wanted:
            self.note(field, "no_answers", "the question has no answer; it is left out")
        else:
            taken = {same_text(text) for text in wanted}
            other = [text for text in unwanted if text and same_text(text) not in taken]
            self._add(field, Probe.of(axis, prompt, wanted, other, facet))

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
        raise Problem(field, "braces", f"{prompt!r} has {{}} in its text")
    if not subject:
        return None, prompt
    places = [m.span() for m in re.finditer(re.escape(subject), prompt)]
    if not places:
        note(field, "no_subject", f"{prompt!r} does not hold the subject {subject!r}")
        return None, prompt
    whole = [m.span() for m in re.finditer(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt)]
    if len(whole or places) > 1:
        note(field, "many_subjects", f"{prompt!r} holds the subject {subject!r} more than once")
    start, end = (whole or places)[0]
    return subject, prompt[:start] + "{}" + prompt[end:]


def old_target(new: str, truth: Iterable[str], note: Note, field: str) -> str | None:
    """The first of the true answers, or None if there is none or `new` is one of them."""
    known = list(truth)
    if same_text(new) in {same_text(text) for text in known}:
        note(field, "no_op", f"{new!r} is a true answer already; it is asked without an old one")
        return None
    return known[0] if known else None
