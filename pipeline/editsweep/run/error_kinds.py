"""Failed edits by kind of error: one line a kind with its first example, never one an edit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from editsweep.core.names import unknown

COLUMNS = ("cell_id", "position", "edit_id", "status", "error_kind", "error_text")
_SHOWN = 100


@dataclass(frozen=True)
class ErrorKind:
    """So many edits failed with this kind of error; the cell, id and reason are the first one's."""

    kind: str
    edits: int
    cell: str
    edit_id: str
    text: str

    def line(self, folder: Path) -> str:
        """What a person is told, with the command that shows all of them."""
        return (
            f"{self.edits} edits failed: {self.kind}, first {self.edit_id[:12]} of {self.cell}: "
            f"{shortened(self.text)}; all: editsweep status {folder} --error-kind {self.kind}"
        )


def shortened(text: str) -> str:
    """`text` as one short line."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def failed(edits: pa.Table, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The failed rows of an `edits` table, cell by cell in the order of `labels`.

    Args:
        edits: its columns `COLUMNS` at least.
        labels: each cell's label by its id.

    Returns:
        `cell cell_id position edit_id error_kind error_text` of each.
    """
    rows = edits.filter(pc.equal(edits["status"], "failed")).select(COLUMNS).to_pylist()
    place = {cell_id: number for number, cell_id in enumerate(labels)}
    rows.sort(key=lambda row: (place.get(row["cell_id"], len(place)), row["position"]))
    return [
        {
            "cell": labels.get(row["cell_id"], row["cell_id"]),
            **{name: row[name] for name in COLUMNS if name != "status"},
        }
        for row in rows
    ]


def by_kind(rows: Sequence[Mapping[str, Any]]) -> list[ErrorKind]:
    """The kinds of rows of `failed`, the most frequent first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row["error_kind"]), []).append(row)
    kinds = [
        ErrorKind(kind, len(own), own[0]["cell"], own[0]["edit_id"], own[0]["error_text"] or "")
        for kind, own in found.items()
    ]
    return sorted(kinds, key=lambda one: (-one.edits, one.kind))


def of_kind(rows: Sequence[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """Those rows of `failed` that are of one kind.

    Raises:
        ConfigError: there is none; the message names the kinds that there are.
    """
    kinds = {str(row["error_kind"]) for row in rows}
    if kind not in kinds:
        raise unknown("kind of error", kind, kinds)
    return [row for row in rows if row["error_kind"] == kind]
