"""Measuring an old run anew from its answers: no model, no torch.

The new folder is a sweep's folder like any other. Its edits and answers are the old ones; what the
answers cannot give (drift, retention, a metric that is no longer taken) is carried over.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from editsweep.core import schema
from editsweep.core.ids import content_id
from editsweep.core.types import CONDITION, Measurement
from editsweep.errors import ConfigError
from editsweep.metrics import suite
from editsweep.metrics.answers import Asked, asked
from editsweep.report.write import read_plan
from editsweep.store.manifest import Line
from editsweep.store.store import SweepStore

# Probes that are measured and turned into rows at once.
SLICE = 4096

_KEYS = ["edit_id", "probe_id", "axis", "facet", "metric", "protocol", "phase"]


class Judging(Protocol):
    """Measures what was said by asking somebody else."""

    protocol: str

    @property
    def described(self) -> Mapping[str, Any]:
        """All that decides its verdicts, as plain JSON."""

    def not_asked(self, slice_: Sequence[Asked], reason: str) -> Iterable[tuple[str, Measurement]]:
        """The same of answers that do not count: null, with the reason."""

    def left_open(self, measurements: pa.Table) -> bool:
        """Whether asking again may give a number where there is none."""

    def measure(self, slice_: Sequence[Asked]) -> Iterable[tuple[str, Measurement]]:
        """Edit id and number, of those answers that it judges."""


@dataclass(frozen=True)
class Rescored:
    """What came of it: the new folder, and how many rows were `made` and `carried` over.

    `units_now` were done by this call; `units_missing` are not recorded in the old run.
    """

    folder: Path
    units_now: int
    units_missing: int
    made: int
    carried: int
    warnings: tuple[str, ...]


def rescore(
    run: Path,
    out: Path | None = None,
    judge: Callable[[Path], Judging] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Rescored:
    """Measure the answers of `run` with the present suite into the sweep folder `out`.

    A run that is not finished is measured as far as it is; later the same call does the rest, also
    of units that were done again.

    Args:
        run: a sweep's folder.
        out: where to; by default `run` with `-rescored` behind its name.
        judge: makes, of the new folder, a judge of what was said.
        say: told after each unit how far it is.

    Raises:
        ConfigError: `out` is `run`, or has other things in it.
        StoreError: `run` is not a sweep's folder, or `out` is another sweep's.
    """
    plan, source = read_plan(run), SweepStore(run)
    folder = out or run.resolve().parent / f"{run.resolve().name}-rescored"
    _refuse_taken(run, folder)
    kept = source.committed()
    judging = judge(folder) if judge else None
    new = _plan(plan, folder.name, judging)
    units = [unit["unit_id"] for unit in plan["units"]]
    todo = [unit for unit in units if unit in kept]
    made = carried = now = 0
    with SweepStore(folder).locked() as store:
        store.bind(_described(new), new["sweep_id"])
        store.write_json("plan.json", new)
        done = _still_good(store, kept, judging)
        for place, unit in enumerate(todo, 1):
            if unit in done:
                continue
            parts, over = _unit(source, unit, new["sweep_id"], judging)
            _commit(store, kept[unit], parts)
            made += parts["measurements"].num_rows - over
            carried += over
            now += 1
            say(f"{place} of {len(todo)} units")
        store.event(event="rescored", units=now, rows=made, carried=carried)
    return Rescored(folder, now, len(units) - len(todo), made, carried, source.warnings)


def _still_good(store: SweepStore, kept: Mapping[str, Line], judge: Judging | None) -> set[str]:
    """The units that need not be measured again; the others are taken back.

    These are units that the run has done again since, and those that the judge left open.
    """
    good = set()
    for unit, line in store.committed().items():
        is_current = unit in kept and kept[unit].committed_at <= line.committed_at
        if is_current and not (judge and judge.left_open(store.part("measurements", unit))):
            good.add(unit)
        else:
            store.withdraw(unit)
    return good


def _refuse_taken(run: Path, folder: Path) -> None:
    if folder.resolve() == run.resolve():
        raise ConfigError(f"--out {folder} is the run itself: choose another folder")
    is_sweep = (folder / "sweep.lock.yaml").exists()
    if folder.exists() and not is_sweep and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already and not empty: choose another --out")


def _plan(plan: Mapping[str, Any], name: str, judge: Judging | None) -> dict[str, Any]:
    """The old plan under an id of its own; cells and units keep theirs."""
    old = plan.get("suite", {})
    came = {"sweep_id": plan["sweep_id"], "name": plan["name"], "suite": old.get("version", "")}
    changed = {
        "suite": {**old, "version": suite.VERSION},
        "rescored_from": came,
        **({"judge": dict(judge.described)} if judge else {}),
    }
    return {**plan, **changed, "name": name, "sweep_id": content_id(changed)}


def _described(plan: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "suite", "rescored_from", "judge")
    return {name: plan[name] for name in names if name in plan}


def _unit(
    source: SweepStore, unit: str, sweep_id: str, judge: Judging | None
) -> tuple[dict[str, pa.Table], int]:
    """The new parts of a unit, and how many measurements were carried over."""
    old = {kind: _of_sweep(source.part(kind, unit), sweep_id) for kind in schema.PARTS}
    rows = old["edits"].select(["cell_id", "edit_id", "status", "error_kind"]).to_pylist()
    edits = {row["edit_id"]: row for row in rows}
    keys = {"sweep_id": sweep_id, "unit_id": unit}
    slices = [schema.MEASUREMENTS.empty_table()]
    probes, known = asked(_rows(old["answers"])), _known(old["answers"])
    while part := list(islice(probes, SLICE)):
        numbers = [*_measured(part, edits, known), *_judged(part, known, judge)]
        found = (
            {**keys, "cell_id": edits[edit_id]["cell_id"], "edit_id": edit_id, **asdict(number)}
            for edit_id, number in numbers
        )
        slices.append(schema.table(schema.MEASUREMENTS, found))
    new = pa.concat_tables(slices)
    over = _carried(old["measurements"], new, judge)
    return {**old, "measurements": pa.concat_tables([new, over])}, over.num_rows


def _measured(
    probes: Iterable[Asked],
    edits: Mapping[str, Mapping[str, Any]],
    known: Mapping[tuple[str, str], bool],
) -> Iterator[tuple[str, Measurement]]:
    for one in probes:
        edit = edits[one.edit_id]
        failure = (edit["error_kind"] or "failed") if edit["status"] == "failed" else None
        met = _is_met(one, known)
        for number in suite.both_phases(one.probe, one.before, one.after, met, failure):
            yield one.edit_id, number


def _judged(
    probes: Sequence[Asked], known: Mapping[tuple[str, str], bool], judge: Judging | None
) -> Iterator[tuple[str, Measurement]]:
    if judge:
        yield from judge.measure([one for one in probes if _is_met(one, known)])
        yield from judge.not_asked([one for one in probes if not _is_met(one, known)], suite.UNMET)


def _is_met(one: Asked, known: Mapping[tuple[str, str], bool]) -> bool:
    return all(known[one.edit_id, need] for need in one.probe.needs)


def _known(answers: pa.Table) -> dict[tuple[str, str], bool]:
    """Of each condition, by edit and probe, whether the unedited model meets it."""
    rows = _rows(answers.filter(pc.equal(answers["axis"], CONDITION)))
    return {(c.edit_id, c.probe.probe_id): suite.knows(c.before) for c in asked(rows)}


def _carried(old: pa.Table, new: pa.Table, judge: Judging | None) -> pa.Table:
    """The old rows for which there is no new one; not those of another judge."""
    if judge:
        old = old.filter(pc.not_equal(old["protocol"], judge.protocol))
    left = old.join(new.select(_KEYS), _KEYS, join_type="left anti", use_threads=False)
    ordered = left.sort_by([(key, "ascending") for key in _KEYS])
    return schema.fitted(ordered.select(schema.MEASUREMENTS.names), schema.MEASUREMENTS)


def _commit(store: SweepStore, line: Line, parts: Mapping[str, pa.Table]) -> None:
    buffers = {kind: schema.to_ipc(part) for kind, part in parts.items()}
    store.commit(line.unit_id, buffers, attempt=line.attempt, seconds=line.seconds, host=line.host)


def _of_sweep(table: pa.Table, sweep_id: str) -> pa.Table:
    place = table.schema.get_field_index("sweep_id")
    ids = pa.array([sweep_id] * table.num_rows, pa.string())
    return table.set_column(place, table.schema.field(place), ids)


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=SLICE):
        yield from batch.to_pylist()
