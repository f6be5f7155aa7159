"""The driver's side of sequences: which checkpoints are still to be done, and from which state."""

from collections.abc import Collection, Iterator
from itertools import groupby
from pathlib import Path

from editsweep.run.plan import Plan
from editsweep.run.policy import NOT_MADE
from editsweep.run.units import Unit
from editsweep.run.writer import Writer
from editsweep.store.chains import ChainFiles


class Sequences:
    """Hands each checkpoint the state that the one before it left, and keeps what it leaves.

    Attributes:
        todo: units to do, in the order of the plan. A committed unit is among them when its
            sequence has to go back to an earlier state; it then leaves the same state again.
        doomed: units that cannot be done because their sequence ended before them, and why.
    """

    def __init__(self, plan: Plan, folder: Path, committed: Collection[str]) -> None:
        """`folder` is the sweep's, `committed` are ids of units that are kept."""
        self._plan, self._files = plan, ChainFiles(folder)
        self._now: dict[str, bytes] = {}
        self.todo: list[Unit] = []
        self.doomed: list[tuple[Unit, str]] = []
        for cell_id, units in groupby(plan.units, lambda unit: unit.cell_id):
            if plan.cells[cell_id].regime.kind == "sequential":
                self._resume(list(units), committed)
            else:
                self.todo += [unit for unit in units if unit.unit_id not in committed]

    @property
    def width(self) -> int:
        """How many units can be done side by side."""
        chains = {unit.cell_id for unit in self.todo if self.is_one(unit)}
        return sum(not self.is_one(unit) for unit in self.todo) + len(chains)

    def is_one(self, unit: Unit) -> bool:
        """Whether a unit is a checkpoint of a sequence."""
        return self._plan.cells[unit.cell_id].regime.kind == "sequential"

    def cost(self, unit: Unit) -> float:
        """Edits that hang on this unit: its own, or all that is left of its sequence."""
        stop = self._edits(unit) if self.is_one(unit) else unit.stop
        return float(stop - unit.start)

    def state(self, unit: Unit) -> bytes | None:
        """Where the unit's sequence stands: empty at its start; None if the unit is in none."""
        if not self.is_one(unit):
            return None
        if not unit.after:
            return b""
        kept = self._now.get(unit.cell_id) or self._files.find(unit.cell_id, unit.after)
        assert kept is not None, f"no state before unit {unit.unit_id}"
        return kept

    def leave(self, unit: Unit, state: bytes, writer: Writer) -> None:
        """Keep the state after `unit`; to be called before the unit is committed."""
        self._now[unit.cell_id] = state
        if unit.stop == self._edits(unit):
            del self._now[unit.cell_id]
        writer.put(lambda: self._files.keep(unit.cell_id, unit.unit_id, state))

    def left_behind(self, unit: Unit, writer: Writer) -> None:
        """Remove the state before `unit`; to be called after the unit is committed."""
        if unit.after:
            writer.put(lambda: self._files.forget(unit.cell_id, unit.after))

    def end(self, unit: Unit, reason: str, writer: Writer) -> None:
        """Write down that its sequence ends with `unit`; to be called before it is committed."""
        if self.is_one(unit):
            writer.put(lambda: self._files.lose(unit.cell_id, unit.unit_id, reason))

    def _resume(self, units: list[Unit], committed: Collection[str]) -> None:
        if all(unit.unit_id in committed for unit in units):
            return
        end = next((i for i, unit in enumerate(units) if self._ended(unit, committed)), len(units))
        start = 0
        for place, unit in enumerate(_leading(units[:end], committed), 1):
            if self._files.find(unit.cell_id, unit.unit_id) is not None:
                start = place
        if any(unit.unit_id not in committed for unit in units[:end]):
            self.todo += units[start:end]
        if end < len(units):
            reason = self._files.why_lost(units[end].cell_id, units[end].unit_id) or ""
            why = reason if reason.startswith(NOT_MADE) else f"{NOT_MADE}: {reason}"
            self.doomed += [(u, why) for u in units[end:] if u.unit_id not in committed]

    def _ended(self, unit: Unit, committed: Collection[str]) -> bool:
        is_lost = self._files.why_lost(unit.cell_id, unit.unit_id) is not None
        return unit.unit_id in committed and is_lost

    def _edits(self, unit: Unit) -> int:
        return len(self._plan.cells[unit.cell_id].records.data.requests)


def _leading(units: list[Unit], committed: Collection[str]) -> Iterator[Unit]:
    """The committed units before the first that is not."""
    for unit in units:
        if unit.unit_id not in committed:
            return
        yield unit
