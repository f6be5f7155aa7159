"""From the values of a file to edit requests, with every fault of every record."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from editsweep.core.types import EditRequest
from editsweep.data.dataset import Fault, Read
from editsweep.data.fields import Problem, inside, quoted, same_text
from editsweep.data.files import read_values
from editsweep.errors import DataError

SHOWN = 20
"""So many faults are listed in one message."""

Note = Callable[[str, str, str], None]
"""Takes field, kind and message of what is wrong with a record that is kept."""

Parse = Callable[[Any, Note], Iterable[EditRequest]]
"""The requests of one value of a file; raises `Problem` if it has to be left out."""

Seen = dict[tuple[str, str], list[tuple[int, EditRequest]]]
"""Line and request of every edit so far, by subject and question."""

Compare = Callable[[EditRequest, list[tuple[int, EditRequest]], Note], None]
"""Looks at an edit and earlier ones of the same fact; raises `Problem` to leave it out."""


Unfold = Callable[[Any], Iterable[tuple[str, Any]]]
"""The records that are in one value of a file, each with its place in it."""


def whole(value: Any) -> Iterable[tuple[str, Any]]:
    """A value that is one record."""
    return [("", value)]


def read_requests(
    path: Path, parse: Parse, compare: Compare, skip_bad: bool, unfold: Unfold = whole
) -> Read:
    """The requests in a file, in its order.

    Raises:
        DataError: the file cannot be read or holds nothing, or has records that have to be left
            out and not `skip_bad`; the message lists the first of them with file, line and field.
    """
    requests: list[EditRequest] = []
    faults: list[Fault] = []
    before: Seen = {}
    for line, place, value in _records(path, unfold):
        notes: list[Fault] = []
        note = partial(_note, notes, str(path), line, place, len(requests))
        try:
            made = _made(value, parse, note)
            for request in made:
                compare(request, before.get(fact(request), []), note)
        except Problem as problem:
            field = inside(place, problem.field)
            faults.append(Fault(str(path), line, field, problem.kind, problem.message))
        else:
            for request in made:
                before.setdefault(fact(request), []).append((line, request))
            requests += made
            faults += notes
    read = Read(tuple(requests), tuple(faults))
    bad = [fault for fault in faults if fault.position is None]
    if bad and not skip_bad:
        raise DataError(_summary(path, bad))
    if not requests and not faults:
        raise DataError(f"{path}: holds no edit; write one JSON object a line")
    return read


def strict(request: EditRequest, earlier: list[tuple[int, EditRequest]], _: Note) -> None:
    """Refuses a second edit of one fact in the same case.

    Raises:
        Problem: there is an earlier one.
    """
    for line, first in earlier:
        if first.case != request.case:
            continue
        if same_text(first.target_new) != same_text(request.target_new):
            message = (
                f"{quoted(request.target_new)} contradicts line {line}, which gives "
                f"{quoted(first.target_new)} for the same subject and prompt; keep one of the two"
            )
            raise Problem("target_new", "contradiction", message)
        raise Problem("", "duplicate", f"the same edit as line {line}; remove one of the two")


def lenient(request: EditRequest, earlier: list[tuple[int, EditRequest]], note: Note) -> None:
    """Refuses an edit only if all of it was there before; notes another edit of the same fact.

    Raises:
        Problem: the same edit with the same probes is there.
    """
    for line, first in earlier:
        if first.edit_id == request.edit_id:
            raise Problem("", "duplicate", f"all of it is the same as line {line}")
    for line, first in earlier[:1]:
        if same_text(first.target_new) == same_text(request.target_new):
            note("", "repeated", f"the same edit as line {line}, with other probes")
        else:
            message = f"{quoted(request.target_new)}, but {quoted(first.target_new)} in line {line}"
            note("target_new", "contradiction", f"{message}, for the same subject and prompt")


def _records(path: Path, unfold: Unfold) -> Iterator[tuple[int, str, Any]]:
    for line, value in read_values(path):
        try:
            found = [("", value)] if isinstance(value, Problem) else list(unfold(value))
        except Problem as problem:
            found = [("", problem)]
        for place, record in found:
            yield line, place, record


def _made(value: Any, parse: Parse, note: Note) -> list[EditRequest]:
    if isinstance(value, Problem):
        raise value
    return list(parse(value, note))


def _note(
    notes: list[Fault],
    file: str,
    line: int,
    place: str,
    position: int,
    field: str,
    kind: str,
    message: str,
) -> None:
    notes.append(Fault(file, line, inside(place, field), kind, message, position))


def fact(request: EditRequest) -> tuple[str, str]:
    """What an edit is about: two edits of one fact cannot both hold."""
    return same_text(request.subject or ""), same_text(request.prompt)


def _summary(path: Path, faults: list[Fault]) -> str:
    kinds = Counter(fault.kind for fault in faults)
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    noun = "bad record" if len(faults) == 1 else "bad records"
    listed = [f"  {fault}" for fault in faults[:SHOWN]]
    more = [f"  and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    advice = "mend them, or leave them out with --skip-bad"
    return "\n".join([f"{path}: {len(faults)} {noun} ({counts}); {advice}", *listed, *more])
