"""Our own file format: UTF-8, one edit a line. `docs/data-format.md` describes it for users."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from editsweep.core.types import EditRequest
from editsweep.data.dataset import Fault, Read
from editsweep.data.record import Problem, parse_record, same_text
from editsweep.errors import DataError

SHOWN = 20
"""So many faults are listed in one message."""


def read_jsonl(path: Path, skip_bad: bool = False) -> Read:
    """The edits in a file, in its order.

    Args:
        path: the file.
        skip_bad: leave bad records out and return them as faults.

    Raises:
        DataError: the file cannot be read, or has faults and not `skip_bad`; the message lists the
            first of them with file, line and field.
    """
    requests: list[EditRequest] = []
    faults: list[Fault] = []
    seen: dict[tuple[str, str], tuple[int, EditRequest]] = {}
    for line, raw in _lines(path):
        try:
            request = parse_record(_parse_line(raw, line))
            _compare(request, seen)
        except Problem as problem:
            faults.append(Fault(str(path), line, problem.field, problem.kind, problem.message))
        else:
            seen[_fact(request)] = (line, request)
            requests.append(request)
    if faults and not skip_bad:
        raise DataError(_summary(path, faults))
    if not requests and not faults:
        raise DataError(f"{path}: holds no edit; write one JSON object a line")
    return Read(tuple(requests), tuple(faults))


def write_jsonl(requests: Iterable[EditRequest], path: Path) -> int:
    """Write requests so that `read_jsonl` gives equal ones back; the number of lines written."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for request in requests:
            file.write(json.dumps(as_record(request), ensure_ascii=False) + "\n")
            count += 1
    return count


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
    record["probes"] = []
    for probe in request.probes:
        entry: dict[str, Any] = {"axis": probe.axis, "prompt": probe.prompt}
        optional = {"facet": probe.facet, "answers": probe.answers, "unwanted": probe.unwanted}
        entry.update((key, value) for key, value in optional.items() if value)
        record["probes"].append(entry)
    return record


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                text = raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw
                if text.strip():
                    yield line, text
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); check the path") from error


def _parse_line(raw: bytes, line: int) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} of line {line} is 0x{raw[error.start]:02x}"
        raise Problem("", "broken_utf8", f"not UTF-8: {where}; save the file as UTF-8") from error
    except RecursionError as error:
        raise Problem("", "invalid_json", "nested too deeply; one flat object a line") from error
    except json.JSONDecodeError as error:
        message = f"not JSON at column {error.colno}: {error.msg}; write one JSON object a line"
        raise Problem("", "invalid_json", message) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    double = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if double:
        raise Problem(double[0], "repeated_key", "stands twice in one object; keep one of them")
    return dict(pairs)


def _fact(request: EditRequest) -> tuple[str, str]:
    return same_text(request.subject or ""), same_text(request.prompt)


def _compare(request: EditRequest, seen: dict[tuple[str, str], tuple[int, EditRequest]]) -> None:
    """Refuse a second edit of one fact; `seen` holds the line and the edit of each fact."""
    line, first = seen.get(_fact(request), (0, None))
    if first is None:
        return
    if same_text(first.target_new) != same_text(request.target_new):
        message = (
            f"{request.target_new!r} contradicts line {line}, which gives {first.target_new!r} for "
            "the same subject and prompt; keep one of the two"
        )
        raise Problem("target_new", "contradiction", message)
    raise Problem("", "duplicate", f"the same edit as line {line}; remove one of the two")


def _summary(path: Path, faults: list[Fault]) -> str:
    kinds = Counter(fault.kind for fault in faults)
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    noun = "bad record" if len(faults) == 1 else "bad records"
    listed = [f"  {fault}" for fault in faults[:SHOWN]]
    more = [f"  and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    advice = "mend them, or leave them out with --skip-bad"
    return "\n".join([f"{path}: {len(faults)} {noun} ({counts}); {advice}", *listed, *more])
