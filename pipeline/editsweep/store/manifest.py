"""`manifest.jsonl`: one line a committed unit. A part without a valid line is not a result.

A line that only says `withdrawn` takes the unit's lines before it back.
"""

import hashlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from editsweep.core import schema
from editsweep.core.names import safe_name
from editsweep.errors import StoreError


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
    def of(cls, fields: Any) -> "Line":
        """The line that was written as these fields.

        Raises:
            ValueError: it is not such a line.
        """
        try:
            safe_name("unit", fields["unit_id"])
            # Hosts and kinds are few and lines are many: each is kept once.
            host = sys.intern(fields.pop("host"))
            files = fields.pop("files").items()
            kinds = {sys.intern(kind): Entry(**file) for kind, file in files}
            return cls(files=kinds, host=host, **fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None

    def text(self) -> str:
        """The line as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    def checked(
        self, folder: Path, read: Collection[str], keep: Collection[str]
    ) -> tuple[str, dict[str, bytes]]:
        """Why files in `folder` are not what this line says, or ""; and the contents to `keep`."""
        kept: dict[str, bytes] = {}
        if why := self._unreadable():
            return why, kept
        for kind in read:
            path = folder / f"{kind}.arrow"
            try:
                data = path.read_bytes()
            except OSError as error:
                return f"{path.name}: {error.strerror}", kept
            if not _holds(self.files[kind], data):
                return f"{path.name} has other content than was committed", kept
            if kind in keep:
                kept[kind] = data
        return "", kept

    def _unreadable(self) -> str:
        if self.schema_version < 1:
            return f"schema version {self.schema_version}, which there is none of"
        if set(self.files) != set(schema.PARTS):
            return f"files {sorted(self.files)} instead of {sorted(schema.PARTS)}"
        return ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A line that says that a unit is kept, and where it stands in the manifest."""

    number: int
    line: Line


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a unit: the line that its files bear out, or why none does.

    `files` are the contents that were asked for.
    """

    unit_id: str
    line: Line | None
    files: Mapping[str, bytes]
    fault: str = ""


def claims(path: Path) -> tuple[dict[str, list[Claim]], list[str]]:
    """Every unit's lines in their order, and a warning for each line that is none.

    What follows the last line end is the trace of a writer that died and is passed over.

    Raises:
        StoreError: a newer EditSweep has written here; doing its units again would undo them.
    """
    made: dict[str, list[Claim]] = {}
    warnings: list[str] = []
    text = path.read_bytes() if path.exists() else b""
    for number, raw in enumerate(text.split(b"\n")[:-1], start=1):
        try:
            fields = json.loads(raw)
            if back := withdrawn(fields):
                made.pop(back, None)
            else:
                line = Line.of(fields)
                _check_version(f"{path}:{number}", line)
                made.setdefault(line.unit_id, []).append(Claim(number, line))
        except ValueError as error:
            warnings.append(f"{path.name}:{number}: not a manifest line ({error}); passed over")
    return made, warnings


def found(
    lines: Sequence[Claim], parts: Path, read: Collection[str], keep: Collection[str]
) -> Found:
    """The first of a unit's `lines` whose files are there as committed.

    Args:
        lines: all lines of the unit, at least one.
        parts: the folder of all units.
        read: the kinds of file that are looked at.
        keep: of these, the kinds whose content is given back.
    """
    unit, why = lines[0].line.unit_id, ""
    for claim in lines:
        fault, files = claim.line.checked(parts / unit, read, keep)
        if not fault:
            return Found(unit, claim.line, files)
        why = f"manifest.jsonl:{claim.number}: unit {unit}: {fault}; it must be done again"
    return Found(unit, None, {}, why)


def _check_version(where: str, line: Line) -> None:
    if line.schema_version > schema.VERSION:
        raise StoreError(
            f"{where}: written by a newer EditSweep (schema version {line.schema_version}, this one "
            f"reads {schema.VERSION} and older). Install that one to go on, or choose another folder"
        )


def withdrawal(unit_id: str, time: str) -> str:
    """The line that takes a unit back."""
    return json.dumps({"withdrawn": unit_id, "at": time}, sort_keys=True)


def withdrawn(fields: object) -> str | None:
    """The unit that a line takes back, or None.

    Raises:
        ValueError: it names no unit.
    """
    if not isinstance(fields, dict) or "withdrawn" not in fields:
        return None
    return safe_name("unit", fields["withdrawn"])


def entry(data: bytes, rows: int) -> Entry:
    """The entry of one file with so many rows."""
    return Entry(hashlib.sha256(data).hexdigest(), len(data), rows)


def _holds(kept: Entry, data: bytes) -> bool:
    """Whether `kept` was made of `data`; rows follow from the content, so they are not counted."""
    return len(data) == kept.bytes and hashlib.sha256(data).hexdigest() == kept.sha256
