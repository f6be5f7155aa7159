"""Our own file format: UTF-8, one edit a line, or the same records as the rows of an Arrow file.

`docs/data-format.md` describes it for users.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from editsweep.core.types import EditRequest
from editsweep.data.arrow_file import write_rows
from editsweep.data.dataset import Read
from editsweep.data.reading import Note, fact, lenient, read_requests, strict
from editsweep.data.record import parse_record


def read_edits(path: Path, skip_bad: bool = False) -> Read:
    """The edits in a file, JSON or Arrow, in its order.

    Args:
        path: the file.
        skip_bad: leave bad records out and return them as faults.

    Raises:
        DataError: the file cannot be read, or has faults and not `skip_bad`; the message lists the
            first of them with file, line and field.
    """
    meant: set[str] = set()

    def parse(value: Any, _: Note) -> list[EditRequest]:
        request = parse_record(value)
        if value.get("again"):
            meant.add(request.edit_id)
        return [request]

    def compare(request: EditRequest, earlier: list[tuple[int, EditRequest]], note: Note) -> None:
        (lenient if request.edit_id in meant else strict)(request, earlier, note)

    return read_requests(path, parse, compare, skip_bad)


def write_edits(requests: Iterable[EditRequest], path: Path) -> int:
    """Write requests so that `read_edits` gives equal ones back; the number of edits written.

    Rows of an Arrow file where the name ends in `.arrow`, else lines of JSON.
    """
    if path.suffix == ".arrow":
        return write_rows(_records(requests), path)
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in _records(requests):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def _records(requests: Iterable[EditRequest]) -> Iterator[dict[str, Any]]:
    """Records of a file, of which one that edits a fact once more says so."""
    facts: set[tuple[str, str]] = set()
    for request in requests:
        record = as_record(request)
        if fact(request) in facts:
            record["again"] = True
        facts.add(fact(request))
        yield record


def as_record(request: EditRequest) -> dict[str, Any]:
    """One request as a record of the format; fields that say nothing are left out."""
    record: dict[str, Any] = {
        "subject": request.subject,
        "prompt": request.prompt,
        "target_new": request.target_new,
    }
    if request.target_true is not None:
        record["target_true"] = request.target_true
    if request.relation:
        record["relation"] = request.relation
    if request.case:
        record["case"] = request.case
    places = {probe.probe_id: place for place, probe in enumerate(request.probes)}
    record["probes"] = []
    for probe in request.probes:
        entry: dict[str, Any] = {"axis": probe.axis, "prompt": probe.prompt}
        optional: dict[str, Any] = {
            "facet": probe.facet,
            "answers": probe.answers,
            "unwanted": probe.unwanted,
            "needs": [places[need] for need in probe.needs],
        }
        entry.update((key, value) for key, value in optional.items() if value)
        record["probes"].append(entry)
    return record
