"""`manifest.jsonl`: one line a committed unit. A part without a valid line is not a result.

A line that only says `withdrawn` takes the unit's lines before it back.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from editsweep.core import schema
from editsweep.core.names import safe_name


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a unit: its sha256 in hex, its size in bytes and its rows."""

    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Line:
    """One committed unit; `seconds` is its time on the worker, `committed_at` UTC in ISO 8601."""

    unit_id: str
    files: Mapping[str, Entry]
    attempt: int
    seconds: float
    host: str
    schema_version: int
    committed_at: str

    @classmethod
    def parse(cls, text: str) -> "Line":
        """The line as it was written.

        Raises:
            ValueError: it is not such a line.
        """
        try:
            fields = json.loads(text)
            safe_name("unit", fields["unit_id"])
            files = {kind: Entry(**file) for kind, file in fields.pop("files").items()}
            return cls(files=files, **fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None

    def text(self) -> str:
        """The line as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def fault(self, folder: Path) -> str | None:
        """Why the files in `folder` are not what this line says, or None."""
        if not 1 <= self.schema_version <= schema.VERSION:
            return (
                f"schema version {self.schema_version}, this EditSweep reads {schema.VERSION} and "
                "what is older"
            )
        if set(self.files) != set(schema.PARTS):
            return f"files {sorted(self.files)} instead of {sorted(schema.PARTS)}"
        for kind, kept in self.files.items():
            path = folder / f"{kind}.arrow"
            try:
                found = entry(path.read_bytes())
            except OSError as error:
                return f"{path.name}: {error.strerror}"
            except pa.ArrowInvalid:
                return f"{path.name} is damaged"
            if found != kept:
                return f"{path.name} has other content than was committed"
        return None


def read(path: Path, parts: Path) -> tuple[dict[str, Line], tuple[str, ...]]:
    """Every unit whose files are there as committed, and a warning for each other line.

    What follows the last line end is the trace of a writer that died and is passed over. Of
    several lines of a unit the first valid one holds.
    """
    lines: dict[str, Line] = {}
    faults: dict[str, str] = {}
    warnings: list[str] = []
    text = path.read_bytes() if path.exists() else b""
    for number, raw in enumerate(text.split(b"\n")[:-1], start=1):
        try:
            if back := withdrawn(raw.decode()):
                lines.pop(back, None)
                faults.pop(back, None)
                continue
            line = Line.parse(raw.decode())
        except ValueError as error:
            warnings.append(f"{path.name}:{number}: not a manifest line ({error}); passed over")
            continue
        if line.unit_id not in lines:
            fault = line.fault(parts / line.unit_id)
            if fault is None:
                lines[line.unit_id] = line
            else:
                faults[line.unit_id] = f"{path.name}:{number}: unit {line.unit_id}: {fault}"
    warnings += [f"{why}; it must be done again" for u, why in faults.items() if u not in lines]
    return lines, tuple(warnings)


def withdrawal(unit_id: str, time: str) -> str:
    """The line that takes a unit back."""
    return json.dumps({"withdrawn": unit_id, "at": time}, sort_keys=True)


def withdrawn(text: str) -> str | None:
    """The unit that a line takes back, or None.

    Raises:
        ValueError: it is not JSON, or names no unit.
    """
    fields = json.loads(text)
    if not isinstance(fields, dict) or "withdrawn" not in fields:
        return None
    return safe_name("unit", fields["withdrawn"])


def entry(data: bytes) -> Entry:
    """The entry of one Arrow IPC file.

    Raises:
        pyarrow.ArrowInvalid: the bytes are not a whole IPC file.
    """
    return Entry(hashlib.sha256(data).hexdigest(), len(data), _rows(data))


def _rows(data: bytes) -> int:
    """The rows of an IPC file, decoding one column only."""
    options = pa.ipc.IpcReadOptions(included_fields=[0])
    with pa.ipc.open_file(pa.BufferReader(data), options=options) as reader:
        return int(reader.read_all().num_rows)
