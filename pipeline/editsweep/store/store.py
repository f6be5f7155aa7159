"""The folder of one sweep. One driver writes it, anybody reads it, a crash never leaves half."""

import difflib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from editsweep.core import schema
from editsweep.core.names import safe_name
from editsweep.core.scrub import scrubbed_json
from editsweep.errors import StoreError
from editsweep.store import durable, manifest
from editsweep.store.ahead import WAITING, ahead
from editsweep.store.lock import exclusive, is_held
from editsweep.store.manifest import Claim, Found, Line

SLICE = 64
_Made = TypeVar("_Made")

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


@dataclass(frozen=True)
class Done:
    """A unit to keep: its `edits`, `measurements` and `answers`, each an Arrow IPC file.

    `attempt` counts from 1; `seconds` is how long the worker on `host` took.
    """

    unit_id: str
    parts: Mapping[str, bytes] = field(repr=False)
    attempt: int
    seconds: float
    host: str


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
        self._kept: dict[str, Line] | None = None
        self._read_last: tuple[object, tuple[dict[str, list[Claim]], list[str]]] | None = None

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
                self._kept = self.committed()
            try:
                yield self
            finally:
                self._kept = None

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
            f"{self.folder} holds the results of another sweep. {_advice(bound, resolved)}. "
            f"What differs:\n{diff}"
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
        return self.commit_all([Done(unit_id, parts, attempt, seconds, host)])[0]

    def commit_all(self, units: Sequence[Done]) -> list[bool]:
        """Keep several units, each whole; for each whether it was kept now, as `commit` says.

        They wait for the disk together, so this is faster than one `commit` after another.

        Raises:
            StoreError: as `commit`; units before the one that it names are kept.
        """
        kept = self._need_lock()
        fresh = {safe_name("unit", u.unit_id): u for u in reversed(units) if u.unit_id not in kept}
        try:
            self._keep(list(fresh.values()))
        except StoreError:
            if len(fresh) < 2:
                raise
            for unit in reversed(fresh.values()):
                self._keep([unit])
        return [fresh.get(unit.unit_id) is unit for unit in units]

    def withdraw(self, unit_id: str) -> None:
        """Take a kept unit back: it counts no more, and can be committed again.

        Its files stay until then.

        Raises:
            StoreError: it is not kept, or the manifest cannot be written.
        """
        kept = self._need_lock()
        if unit_id not in kept:
            raise StoreError(f"{self.folder}: no committed unit {unit_id}")
        with self._writing(f"take unit {unit_id} back"):
            durable.append_line(self._manifest, manifest.withdrawal(unit_id, _now()))
        del kept[unit_id]

    def committed(self) -> dict[str, Line]:
        """Every unit that is kept and undamaged, by id; what is wrong goes to `warnings`.

        Every file is read, unless the folder is locked: then they were read at its start.
        """
        if self._kept is not None:
            return dict(self._kept)
        found = self._found(None, (), lambda one: one.line)
        return {one.unit_id: line for one, line in found if line}

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
        self,
        unit_ids: Iterable[str] | None = None,
        kinds: Iterable[str] = tuple(schema.PARTS),
        narrow: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, pa.Table]:
        """Several kinds as `table` gives them, reading each part once.

        Args:
            unit_ids: as in `table`.
            kinds: keys of `core.schema.PARTS`.
            narrow: of these kinds only these columns, for tables too long to sort as text: texts
                are dictionaries, and rows stand in the order of their units' ids.
        """
        kinds, narrow = tuple(kinds), narrow or {}
        made: dict[str, list[pa.Table]] = {kind: [self._empty(kind, narrow)] for kind in kinds}
        for tables in self._decoded(unit_ids, kinds, narrow):
            for kind, table in tables.items():
                made[kind].append(table)
        return {
            kind: _unified(made.pop(kind)) if kind in narrow else _sorted(kind, made.pop(kind))
            for kind in kinds
        }

    def slices(
        self,
        unit_ids: Iterable[str] | None = None,
        kinds: Iterable[str] = tuple(schema.PARTS),
        units: int = SLICE,
    ) -> Iterator[dict[str, pa.Table]]:
        """What `tables` gives, so many units at a time in the order of their ids, not sorted.

        Raises:
            StoreError: as `table`.
        """
        kinds, held = tuple(kinds), list[dict[str, pa.Table]]()
        for tables in self._decoded(unit_ids, kinds, {}):
            held.append(tables)
            if len(held) == units:
                yield _together(held)
                held = []
        if held:
            yield _together(held)

    def part(self, kind: str, unit_id: str) -> pa.Table:
        """One part as it was committed, its rows in their own order; it is not checked again.

        Raises:
            StoreError: it is not there, or does not fit the schema.
        """
        path = self._path(kind, unit_id)
        try:
            return self._fitted(kind, unit_id, path.read_bytes())
        except OSError as error:
            raise StoreError(f"{path}: {error}") from None

    def event(self, **fields: object) -> None:
        """Append one line to `progress.jsonl`, with the time in UTC and without secrets."""
        self._need_lock()
        with self._writing("note an event"):
            line = json.dumps(scrubbed_json({"time": _now(), **fields}))
            durable.append_line(self.folder / "progress.jsonl", line, wait=False)

    def write_json(self, name: str, value: object) -> None:
        """Write `value` without secrets to the file `name` in the folder, in one step."""
        self._need_lock()
        text = (
            json.dumps(scrubbed_json(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        )
        with self._writing(f"write {name}"):
            durable.replace_file(self.folder / safe_name("file", name), text.encode())

    @property
    def at_work(self) -> bool:
        """Whether a driver has the folder now, this process or another on this machine."""
        return is_held(self.folder / ".lock")

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.jsonl"

    def _need_lock(self) -> dict[str, Line]:
        if self._kept is None:
            raise StoreError("only the driver writes: use `with SweepStore(folder).locked()`")
        return self._kept

    def _path(self, kind: str, unit_id: str) -> Path:
        return self.folder / "parts" / unit_id / f"{kind}.arrow"

    def _fitted(self, kind: str, unit_id: str, data: bytes) -> pa.Table:
        try:
            return schema.fitted(schema.from_ipc(data), schema.PARTS[kind])
        except (pa.ArrowInvalid, ValueError) as error:
            raise StoreError(f"{self._path(kind, unit_id)}: {error}") from None

    def _empty(self, kind: str, narrow: Mapping[str, Sequence[str]]) -> pa.Table:
        whole = schema.PARTS[kind].empty_table()
        return schema.coded(whole.select(narrow[kind])) if kind in narrow else whole

    def _decoded(
        self,
        unit_ids: Iterable[str] | None,
        kinds: Sequence[str],
        narrow: Mapping[str, Sequence[str]],
    ) -> Iterator[dict[str, pa.Table]]:
        """The tables of one unit after another; they are decoded by the threads that read."""

        def work(one: Found) -> dict[str, pa.Table]:
            return {kind: self._read(kind, one, narrow.get(kind, ())) for kind in one.files}

        return (tables for one, tables in self._found(unit_ids, kinds, work) if one.line)

    def _read(self, kind: str, one: Found, columns: Sequence[str]) -> pa.Table:
        if not columns:
            return self._fitted(kind, one.unit_id, one.files[kind])
        try:
            return schema.coded(schema.from_ipc(one.files[kind], columns))
        except (pa.ArrowInvalid, ValueError) as error:
            raise StoreError(f"{self._path(kind, one.unit_id)}: {error}") from None

    def _found(
        self, unit_ids: Iterable[str] | None, keep: Collection[str], work: Callable[[Found], _Made]
    ) -> Iterator[tuple[Found, _Made]]:
        """Units in the order of their ids, and `work` of each with the files to `keep`.

        Sets `warnings` at the end.

        Raises:
            StoreError: one of `unit_ids` is not kept.
        """
        claims, warnings = self._claims()
        wanted = sorted(claims if unit_ids is None else set(unit_ids))
        if absent := [unit for unit in wanted if unit not in claims]:
            raise StoreError(f"{self.folder}: no committed unit {', '.join(absent)}")
        # Under the lock all files were looked at when it was taken.
        read = tuple(schema.PARTS) if self._kept is None else keep
        parts = self.folder / "parts"
        faults: dict[str, str] = {}

        def done(unit: str) -> tuple[Found, _Made]:
            one = manifest.found(claims[unit], parts, read, keep)
            made = work(one)
            return replace(one, files={}), made

        for one, made in ahead(done, wanted):
            if one.line is None and unit_ids is not None:
                raise StoreError(f"{self.folder}: no committed unit {one.unit_id}: {one.fault}")
            if one.line is None:
                faults[one.unit_id] = one.fault
            yield one, made
        if unit_ids is None:
            self.warnings = (*warnings, *(faults[unit] for unit in claims if unit in faults))

    def _claims(self) -> tuple[dict[str, list[Claim]], list[str]]:
        """What the manifest says, read again only when it is another file than the last time."""
        about = self._manifest.stat() if self._manifest.exists() else None
        state = about and (about.st_mtime_ns, about.st_size, about.st_ino)
        if self._read_last is None or self._read_last[0] != state:
            self._read_last = state, manifest.claims(self._manifest)
        return self._read_last[1]

    def _line(self, unit: Done) -> Line:
        if set(unit.parts) != set(schema.PARTS):
            raise StoreError(
                f"unit {unit.unit_id} has parts {sorted(unit.parts)}, not {sorted(schema.PARTS)}"
            )
        files = {}
        for kind, wanted in schema.PARTS.items():
            data = unit.parts[kind]
            try:
                rows = schema.rows(data, wanted)
            except (pa.ArrowInvalid, ValueError) as error:
                raise StoreError(f"unit {unit.unit_id}: {kind}: {error}") from None
            files[kind] = manifest.entry(data, rows)
        version = schema.VERSION
        return Line(
            unit.unit_id, files, unit.attempt, unit.seconds, unit.host, version, committed_at=_now()
        )

    def _keep(self, units: Sequence[Done]) -> None:
        """All of these units or none of them."""
        if not units:
            return
        lines = list(ahead(self._line, units))
        with self._writing(f"keep unit {', '.join(unit.unit_id for unit in units)}"):
            self._place(units, lines)
        self._need_lock().update({line.unit_id: line for line in lines})

    def _place(self, units: Sequence[Done], lines: Sequence[Line]) -> None:
        """Temporary folders, renames, manifest lines; before its line a unit does not count."""
        parts, drafts = self.folder / "parts", self.folder / ".tmp"
        homes = {
            drafts / f"{u.unit_id}.{u.attempt}.{os.getpid()}": parts / u.unit_id for u in units
        }
        stale = {
            home: draft.with_name(f"{draft.name}.stale")
            for draft, home in homes.items()
            if home.exists()
        }
        try:
            for _ in ahead(_write, list(zip(homes, units, strict=True)), WAITING):
                pass
            durable.move_folders(stale)
            durable.move_folders(homes)
            durable.append_line(self._manifest, "\n".join(line.text() for line in lines))
        except OSError:
            for draft, home in homes.items():
                shutil.rmtree(draft, ignore_errors=True)
                shutil.rmtree(home, ignore_errors=True)
            raise
        for folder in stale.values():
            shutil.rmtree(folder, ignore_errors=True)

    def _writing(self, what: str) -> AbstractContextManager[None]:
        return durable.explained(self.folder, what)


def _write(folder_and_unit: tuple[Path, Done]) -> None:
    folder, unit = folder_and_unit
    durable.write_folder(folder, {f"{kind}.arrow": data for kind, data in unit.parts.items()})


def _together(held: Sequence[Mapping[str, pa.Table]]) -> dict[str, pa.Table]:
    return {kind: pa.concat_tables(one[kind] for one in held) for kind in held[0]}


def _unified(tables: list[pa.Table]) -> pa.Table:
    """One table with one dictionary a column; each copy goes before the next is made."""
    whole = pa.concat_tables(tables)
    tables.clear()
    whole = whole.unify_dictionaries()
    return whole.combine_chunks()


def _sorted(kind: str, tables: Iterable[pa.Table]) -> pa.Table:
    """The sort is stable and the units come in order, so ties are in a fixed order too."""
    whole = pa.concat_tables(tables)
    return whole.take(pc.sort_indices(whole, [(key, "ascending") for key in _ORDER[kind]]))


def _fingerprint(text: str) -> object:
    return _lock(text).get("fingerprint")


def _advice(text: str, resolved: Mapping[str, Any]) -> str:
    """How to go on with what is bound as `text`, or beside it."""
    sweep = _lock(text).get("sweep")
    made, now = (s.get("code") if isinstance(s, Mapping) else None for s in (sweep, resolved))
    if made and now and made != now:
        return (
            f"It was made by EditSweep {made} and this is {now}, whose numbers may differ: install "
            f"{made} to continue it, or choose another --out"
        )
    return "Choose another --out for the new one, or go back to the old sweep file to continue it"


def _lock(text: str) -> Mapping[str, Any]:
    """What `bind` has written; nothing if it is damaged."""
    try:
        kept = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return kept if isinstance(kept, dict) else {}


def _yaml(value: Mapping[str, Any]) -> str:
    return str(yaml.safe_dump(dict(value), sort_keys=True, allow_unicode=True, width=100))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
