"""Taking back what failed, so that the same run does it again. No torch, no ray."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from editsweep.core.names import unknown
from editsweep.report.write import read_plan
from editsweep.store.store import SweepStore


@dataclass(frozen=True)
class Retried:
    """What was taken back: `units`, in which `edits` had failed.

    `kept` failed edits of sequences stay: what came after them was made on top of what they left.
    """

    units: int
    edits: int
    kept: int


ANY = "failed"


def take_back(folder: Path, kinds: Collection[str] = (ANY,)) -> Retried:
    """Take back the units in which edits failed, of these kinds of error; `ANY` is all of them.

    Raises:
        ConfigError: no edit failed with such a kind of error, though others did.
        StoreError: it is not a sweep's folder, or a driver is at work in it.
    """
    plan = read_plan(folder)
    regimes = {cell["cell_id"]: cell["regime"] for cell in plan["cells"]}
    with SweepStore(folder).locked() as store:
        columns = ["cell_id", "unit_id", "status", "error_kind"]
        rows = store.table("edits").select(columns).to_pylist()
        failed = [row for row in rows if row["status"] == "failed"]
        known = {row["error_kind"] for row in failed}
        for kind in kinds:
            if known and kind not in {ANY, *known}:
                raise unknown("kind of error", kind, [ANY, *sorted(known)])
        chosen = [row for row in failed if ANY in kinds or row["error_kind"] in kinds]
        free = [row for row in chosen if not regimes[row["cell_id"]].startswith("sequential")]
        units = dict.fromkeys(row["unit_id"] for row in free)
        for unit in units:
            store.withdraw(unit)
        if units:
            store.event(event="taken_back", units=len(units), edits=len(free))
    return Retried(len(units), len(free), len(chosen) - len(free))
