"""The folder of one sweep. One driver writes it, anybody reads it, a crash never leaves half."""

import difflib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from editsweep.core import schema
from editsweep.core.names import safe_name
from editsweep.errors import StoreError
from editsweep.store import durable, manifest
from editsweep.store.lock import exclusive, is_held
from editsweep.store.manifest import Entry, Line, entry

_ORDER: Mapping[str, tuple[str, ...]] = {
    "edits": ("sweep_id", "cell_id", "position", "edit_id"),
    "measurements": (
        *("sweep_id", "cell_id", "edit_id", "probe_id"),
        *("axis", "facet", "metric", "protocol", "phase"),
    ),
    "answers": (
        *("sweep_id", "cell_id", "edit_id", "probe_id"),
        *("axis", "facet", "role", "text"),
    ),
}


class SweepStore:
    """Everything of one sweep on disk, under `folder`.

    Reading needs no lock. Writing does: `with SweepStore(folder).locked() as store: ...`.

    Attributes:
        folder: where the sweep is kept.
        warnings: what the last reading of the manifest found wrong, one sentence each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.warnings: tuple[str, ...] = ()
        self._done: set[str] | None = None

    @contextmanager
    def locked(self) -> Iterator["SweepStore"]:
        """Be the one driver of this folder, which is made if absent; clears a crash's remains.

        Raises:
            StoreError: another driver is at work, or the folder cannot be written.
        """
        with ExitStack() as held:
            with self._writing("open the folder"):
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(exclusive(self.folder / ".lock"))
                (self.folder / "parts").mkdir(exist_ok=True)
                shutil.rmtree(self.folder / ".tmp", ignore_errors=True)
                durable.drop_torn_line(self._manifest)
                durable.drop_torn_line(self.folder / "progress.jsonl")
                self._done = set(self.committed())
            try:
                yield self
            finally:
                self._done = None

    def bind(self, resolved: Mapping[str, Any], fingerprint: str) -> None:
        """Tie this folder to one sweep: the first call writes it down, later ones compare.

        Raises:
            StoreError: the folder belongs to another sweep; the message shows what differs.
        """
        self._need_lock()
        path = self.folder / "sweep.lock.yaml"
        text = _yaml({"fingerprint": fingerprint, "sweep": resolved})
        if not path.exists():
            with self._writing("bind"):
                durable.replace_file(path, text.encode())
            return
        bound = path.read_text(encoding="utf-8")
        if _fingerprint(bound) == fingerprint:
            return
        diff = "\n".join(
            difflib.unified_diff(
                bound.splitlines(),
                text.splitlines(),
                "in this folder",
                "asked for now",
                "",
                "",
                2,
                "",
            )
        )
        raise StoreError(
            f"{self.folder} holds the results of another sweep. Choose another --out for the new "
            f"one, or go back to the old sweep file to continue it. What differs:\n{diff}"
        )

    def commit(
        self, unit_id: str, parts: Mapping[str, bytes], *, attempt: int, seconds: float, host: str
    ) -> bool:
        """Keep one unit whole; False, and nothing changes, when it is kept already.

        Args:
            unit_id: the unit.
            parts: its `edits`, `measurements` and `answers`, each an Arrow IPC file.
            attempt: which attempt at the unit this is, from 1.
            seconds: how long the worker took.
            host: where the worker ran.

        Raises:
            StoreError: the parts are not what the schema says, or cannot be written; nothing of
                the unit is kept then.
        """
        done = self._need_lock()
        if safe_name("unit", unit_id) in done:
            return False
        files = {kind: self._checked(unit_id, kind, parts) for kind in schema.PARTS}
        line = Line(
            unit_id=unit_id,
            files=files,
            attempt=attempt,
            seconds=seconds,
            host=host,
            schema_version=schema.VERSION,
            committed_at=_now(),
        )
        with self._writing(f"keep unit {unit_id}"):
            self._place(line, attempt, {f"{kind}.arrow": parts[kind] for kind in files})
        done.add(unit_id)
        return True

    def withdraw(self, unit_id: str) -> None:
        """Take a kept unit back: it counts no more, and can be committed again.

        Its files stay until then.

        Raises:
            StoreError: it is not kept, or the manifest cannot be written.
        """
        done = self._need_lock()
        if unit_id not in done:
            raise StoreError(f"{self.folder}: no committed unit {unit_id}")
        with self._writing(f"take unit {unit_id} back"):
            durable.append_line(self._manifest, manifest.withdrawal(unit_id, _now()))
        done.discard(unit_id)

    def committed(self) -> dict[str, Line]:
        """Every unit that is kept and undamaged, by id; what is wrong goes to `warnings`."""
        lines, self.warnings = manifest.read(self._manifest, self.folder / "parts")
        return lines

    def table(self, kind: str, unit_ids: Iterable[str] | None = None) -> pa.Table:
        """All rows of one kind (`edits`, `measurements`, `answers`), in the order of their keys.

        Args:
            kind: a key of `core.schema.PARTS`.
            unit_ids: only these units; all committed ones when None.

        Raises:
            StoreError: a unit asked for is not committed, or a part does not fit the schema.
        """
        return self.tables(unit_ids, (kind,))[kind]

    def tables(
        self, unit_ids: Iterable[str] | None = None, kinds: Iterable[str] = tuple(schema.PARTS)
    ) -> dict[str, pa.Table]:
        """Several kinds as `table` gives them, checking each part once."""
        kept = self.committed()
        wanted = sorted(kept if unit_ids is None else set(unit_ids))
        if absent := [unit for unit in wanted if unit not in kept]:
            raise StoreError(f"{self.folder}: no committed unit {', '.join(absent)}")
        return {kind: self._read(kind, wanted) for kind in kinds}

    def part(self, kind: str, unit_id: str) -> pa.Table:
        """One part as it was committed, its rows in their own order; it is not checked again.

        Raises:
            StoreError: it is not there, or does not fit the schema.
        """
        path = self.folder / "parts" / unit_id / f"{kind}.arrow"
        try:
            return schema.fitted(schema.from_ipc(path.read_bytes()), schema.PARTS[kind])
        except (OSError, pa.ArrowInvalid, ValueError) as error:
            raise StoreError(f"{path}: {error}") from None

    def event(self, **fields: object) -> None:
        """Append one line to `progress.jsonl`, with the time in UTC."""
        self._need_lock()
        with self._writing("note an event"):
            line = json.dumps({"time": _now(), **fields})
            durable.append_line(self.folder / "progress.jsonl", line, wait=False)

    def write_json(self, name: str, value: object) -> None:
        """Write `value` to the file `name` in the folder, in one step."""
        self._need_lock()
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        with self._writing(f"write {name}"):
            durable.replace_file(self.folder / safe_name("file", name), text.encode())

    @property
    def at_work(self) -> bool:
        """Whether a driver has the folder now, this process or another on this machine."""
        return is_held(self.folder / ".lock")

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.jsonl"

    def _need_lock(self) -> set[str]:
        if self._done is None:
            raise StoreError("only the driver writes: use `with SweepStore(folder).locked()`")
        return self._done

    def _checked(self, unit_id: str, kind: str, parts: Mapping[str, bytes]) -> Entry:
        if set(parts) != set(schema.PARTS):
            raise StoreError(
                f"unit {unit_id} has parts {sorted(parts)}, not {sorted(schema.PARTS)}"
            )
        try:
            schema.fitted(schema.from_ipc(parts[kind]), schema.PARTS[kind])
            return entry(parts[kind])
        except (pa.ArrowInvalid, ValueError) as error:
            raise StoreError(f"unit {unit_id}: {kind}: {error}") from None

    def _place(self, line: Line, attempt: int, files: Mapping[str, bytes]) -> None:
        """Temporary folder, rename, manifest line; before the line the unit does not count."""
        draft = self.folder / ".tmp" / f"{line.unit_id}.{attempt}.{os.getpid()}"
        home = self.folder / "parts" / line.unit_id
        try:
            durable.write_folder(draft, files)
            if home.exists():
                durable.move_folder(home, draft.with_name(f"{draft.name}.stale"))
            durable.move_folder(draft, home)
            durable.append_line(self._manifest, line.text())
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            shutil.rmtree(home, ignore_errors=True)
            raise
        shutil.rmtree(draft.with_name(f"{draft.name}.stale"), ignore_errors=True)

    def _read(self, kind: str, unit_ids: Iterable[str]) -> pa.Table:
        tables = [schema.PARTS[kind].empty_table()]
        tables += [self.part(kind, unit_id) for unit_id in unit_ids]
        # The sort is stable and the units come in order, so ties are in a fixed order too.
        whole = pa.concat_tables(tables)
        return whole.take(pc.sort_indices(whole, [(key, "ascending") for key in _ORDER[kind]]))

    def _writing(self, what: str) -> AbstractContextManager[None]:
        return durable.explained(self.folder, what)


def _fingerprint(text: str) -> object:
    try:
        kept = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return kept.get("fingerprint") if isinstance(kept, dict) else None


def _yaml(value: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(value), sort_keys=True, allow_unicode=True, width=100))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
