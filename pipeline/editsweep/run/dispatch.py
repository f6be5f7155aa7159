"""The loop of a run: give tasks to workers, keep what comes back, until nothing is left to do.

The driver is the only writer, on a thread of its own. What the unedited model said lies in `<folder>/base/` so that a run
that goes on has it.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc

from editsweep.core import schema
from editsweep.errors import ConfigError, DataError, EditSweepError, ModelError, WorkerError
from editsweep.run.budget import Budget
from editsweep.run.evaluate import UnitIds, failed_unit
from editsweep.run.executor import Executor
from editsweep.run.failures import unasked_unit
from editsweep.run.meters import Meters
from editsweep.run.plan import Plan
from editsweep.run.policy import NOT_MADE, Item, Queue
from editsweep.run.progress import Progress, Snapshot
from editsweep.run.sequences import Sequences
from editsweep.run.stop import Stop
from editsweep.run.tasks import AssetTask, BaseTask, Died, EditTask, Event, Failure, Outcome, Task
from editsweep.run.units import Unit
from editsweep.run.writer import Writer
from editsweep.store.store import SweepStore

WAIT_S = 1.0
DEATHS_AT_START = 4
_SETUP_ERRORS: Mapping[str, type[EditSweepError]] = {
    error.__name__: error for error in (ConfigError, DataError, ModelError)
}


class Dispatch:
    """One run over the units of `plan` that are not committed yet."""

    def __init__(
        self,
        plan: Plan,
        store: SweepStore,
        progress: Progress,
        stop: Stop,
        budget: Budget | None = None,
    ) -> None:
        """`store` must be locked and bound; what `budget` does not bear ends the run early."""
        self._plan, self._store, self._progress, self._stop = plan, store, progress, stop
        self._committed = frozenset(store.committed())
        self._units = {unit.unit_id: unit for unit in plan.units}
        self._left = [unit for unit in plan.units if unit.unit_id not in self._committed]
        self._sequences = Sequences(plan, store.folder, self._committed)
        self._bases = BaseAnswers(store.folder / "base")
        self._queue = _queue(plan, self._sequences, self._bases)
        self._kinds: dict[str, Failure] = {}
        self._meters: Meters | None = None
        self._writer = Writer()
        self._lanes: dict[int, str] = {}
        self._deaths = 0
        self._finished = bool(self._committed)
        self._started = monotonic()
        self._edits_left = sum(unit.stop - unit.start for unit in self._left)
        self._edits_now = 0
        self._failed = 0
        self._budget = budget
        self._total = sum(unit.stop - unit.start for unit in plan.units)
        self._failed_before = _failed(store.table("edits", self._committed)) if budget else 0
        self.over_budget = ""

    @property
    def units_left(self) -> int:
        """Units that still have to be done."""
        return len(self._left)

    @property
    def width(self) -> int:
        """How many workers can have something to do at once."""
        return max(1, self._sequences.width)

    def run(self, executor: Executor, meters: Meters | None = None) -> None:
        """Do the work; returns when all is done, or when `stop` was asked and nothing is in flight.

        `meters` show it to whoever watches from outside.

        Raises:
            ConfigError, DataError, ModelError: a worker met an error that all tasks would meet.
            WorkerError: workers die and nothing gets done.
        """
        self._meters = meters
        self._show()
        with self._writer:
            for unit, reason in self._sequences.doomed:
                self._lose(unit, "not_prepared", reason, reason)
            while not self._queue.over:
                self._check_budget()
                if not self._stop.asked:
                    self._give_out(executor)
                if not self._queue.running:
                    return
                for event in executor.wait(WAIT_S):
                    self._take_in(event)
                self._bury()
                self._show()

    def _check_budget(self) -> None:
        failed = self._failed_before + self._failed
        if self._budget is None or self._stop.asked or self._budget.bears(failed, self._total):
            return
        self.over_budget = (
            f"{failed} of {self._total} edits failed, more than --max-failures {self._budget}"
        )
        self._progress.say(
            f"Giving up: {self.over_budget}. What is in flight is finished and kept."
        )
        self._note(event="over_budget", failed=failed)
        self._stop.asked = True

    def _give_out(self, executor: Executor) -> None:
        for worker in executor.idle():
            item = self._queue.take(self._lanes.get(worker))
            if item is None:
                return
            self._lanes[worker] = item.lane
            executor.submit(worker, self._task(item.task_id))

    def _take_in(self, event: Event) -> None:
        if isinstance(event, Died):
            self._died(event)
        elif event.failure is not None:
            self._raised(event.task_id, event.failure)
        else:
            self._keep(event)
            self._queue.finished(event.task_id)
            self._finished = True

    def _keep(self, outcome: Outcome) -> None:
        task_id = outcome.task_id
        if task_id in self._units:
            self._done(self._units[task_id], outcome)
        elif task_id in self._plan.bases:
            self._bases.keep(task_id, outcome.parts["base"])

    def _done(self, unit: Unit, outcome: Outcome) -> None:
        """The state of a sequence is on the disk before the unit counts, the old one until then."""
        if outcome.chain is not None:
            self._sequences.leave(unit, outcome.chain, self._writer)
        if unit.unit_id not in self._committed:
            attempt = self._queue.attempts(unit.unit_id)
            self._commit(unit, outcome.parts, attempt, outcome.seconds, outcome.host)
        self._sequences.left_behind(unit, self._writer)

    def _commit(
        self, unit: Unit, parts: Mapping[str, bytes], attempt: int, seconds: float, host: str
    ) -> None:
        key = unit.unit_id
        edits = unit.stop - unit.start
        self._edits_now += edits
        self._edits_left -= edits
        made = schema.from_ipc(parts["edits"])
        failed = _failed(made)
        self._failed += failed
        cell = self._plan.cells[unit.cell_id]
        if self._meters:
            self._meters.edited(cell.editor.name, made["edit_s"].to_pylist())
        self._writer.put(
            lambda: self._store.commit(key, parts, attempt=attempt, seconds=seconds, host=host)
        )
        done = {"unit": key, "edits": edits, "failed": failed, "seconds": round(seconds, 3)}
        self._note(event="committed", cell=cell.label, attempt=attempt, **done)

    def _note(self, **fields: object) -> None:
        self._writer.put(partial(self._store.event, **fields))
        if self._meters:
            self._meters.event(fields)

    def _raised(self, task_id: str, failure: Failure) -> None:
        self._note(
            event="raised", task=task_id, kind=failure.kind, text=failure.text, trace=failure.trace
        )
        if failure.is_setup:
            raise _SETUP_ERRORS.get(failure.kind, ConfigError)(failure.text)
        self._kinds[task_id] = failure
        self._queue.raised(task_id, f"{failure.kind}: {failure.text}")

    def _died(self, event: Died) -> None:
        self._note(event="worker_died", task=event.task_id, text=event.reason)
        self._progress.say(f"A worker died and was replaced ({event.reason})")
        self._deaths += 1
        if self._deaths >= DEATHS_AT_START and not self._finished:
            raise WorkerError(
                f"{self._deaths} workers died and no task was finished, the last: {event.reason}. "
                "Is there memory for the model in each worker? Try fewer --workers"
            )
        self._queue.died(event.task_id, "its worker died each time, also when it ran alone")

    def _bury(self) -> None:
        """Units that came to nothing become rows with the reason."""
        for task_id, reason in self._queue.collect_dead():
            if task_id not in self._units:
                self._progress.say(f"Could not prepare what some edits need ({reason})")
                continue
            failure = self._kinds.get(task_id)
            kind, text = (failure.kind, failure.text) if failure else ("worker_died", reason)
            if reason.startswith(NOT_MADE):
                kind, text = "not_prepared", reason
            self._lose(self._units[task_id], kind, text, reason)

    def _lose(self, unit: Unit, kind: str, text: str, reason: str) -> None:
        """Every edit of the unit fails; a sequence ends here, and a later run will know it."""
        if unit.unit_id in self._committed:
            return
        self._sequences.end(unit, reason, self._writer)
        known = unit.unit_id in self._queue.states()
        attempt = self._queue.attempts(unit.unit_id) if known else 0
        self._commit(unit, self._lost(unit, kind, text), attempt, 0.0, "")

    def _lost(self, unit: Unit, kind: str, text: str) -> dict[str, bytes]:
        groups, ids = self._plan.groups(unit), self._ids(unit)
        base = self._base(unit)
        tables = (
            unasked_unit(groups, ids, kind, text)
            if base is None
            else failed_unit(groups, base, ids, kind, text)
        )
        return {name: schema.to_ipc(table) for name, table in tables.items()}

    def _task(self, task_id: str) -> Task:
        plan = self._plan
        if task_id in plan.assets:
            need = plan.assets[task_id]
            return AssetTask(task_id, need.model, need.recipe)
        if task_id in plan.bases:
            part = plan.bases[task_id]
            return BaseTask(task_id, part.model, part.requests, plan.settings)
        unit = self._units[task_id]
        cell, base = plan.cells[unit.cell_id], self._base(unit)
        assert base is not None
        return EditTask(
            task_id=task_id,
            model=cell.model,
            spec=cell.editor.spec,
            restrain=cell.editor.restrain,
            recipes=cell.recipes,
            groups=tuple(plan.groups(unit)),
            base=schema.to_ipc(base),
            ids=self._ids(unit),
            seed=cell.seed,
            settings=plan.settings,
            chain=self._sequences.state(unit),
            again=plan.again(unit),
        )

    def _base(self, unit: Unit) -> pa.Table | None:
        """The base answers of exactly the edits that this unit asks; None if some are missing."""
        keys = [need for need in unit.needs if need in self._plan.bases]
        tables = [self._bases.find(key) for key in keys]
        if any(table is None for table in tables):
            return None
        whole = pa.concat_tables(tables)
        asked = (*self._plan.groups(unit), self._plan.again(unit))
        ids = [request.edit_id for group in asked for request in group]
        return whole.filter(pc.is_in(whole["edit_id"], pa.array(ids)))

    def _ids(self, unit: Unit) -> UnitIds:
        return UnitIds(self._plan.sweep_id, unit.cell_id, unit.unit_id, unit.start, unit.group)

    def _show(self) -> None:
        running = self._queue.running
        units = sum(task_id in self._units for task_id in running)
        preparing = units < len(running)
        if self._meters:
            self._meters.show(units, len(running))
        self._progress.update(
            Snapshot(
                done=self._total - self._edits_left,
                total=self._total,
                done_now=self._edits_now,
                seconds=monotonic() - self._started,
                failed=self._failed,
                doing="preparing" if preparing else "",
            )
        )


class BaseAnswers:
    """What the unedited model said, one Arrow file a slice, named by the slice's content."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when something is kept."""
        self._folder = folder

    def keep(self, key: str, data: bytes) -> None:
        """Write one slice's answers; they can be had again, so this does not wait for the disk."""
        self._folder.mkdir(exist_ok=True)
        draft = self._folder / f".{key}"
        draft.write_bytes(data)
        draft.replace(self._folder / f"{key}.arrow")

    def find(self, key: str) -> pa.Table | None:
        """One slice's answers, or None when they are not there or damaged."""
        try:
            return schema.from_ipc((self._folder / f"{key}.arrow").read_bytes())
        except (OSError, pa.ArrowInvalid):
            return None


def _queue(plan: Plan, sequences: Sequences, bases: BaseAnswers) -> Queue:
    """The tasks of the units to do and of what they need and is not there yet."""
    todo = {unit.unit_id: unit for unit in sequences.todo}
    needed = dict.fromkeys(need for unit in todo.values() for need in unit.needs)
    done = {key for key in needed if key in plan.bases and bases.find(key) is not None}
    done |= {unit.after for unit in todo.values() if unit.after and unit.after not in todo}
    items = []
    for key in needed:
        if key not in done and key not in todo:
            slice_ = plan.bases.get(key)
            use = slice_.model if slice_ else plan.assets[key].model
            # Assets first: they take longest and more depends on them.
            cost = float(len(slice_.requests)) if slice_ else float("inf")
            items.append(Item(key, cost=cost, lane=_lane(use), stage=0))
    for unit in todo.values():
        lane = _lane(plan.cells[unit.cell_id].model)
        items.append(Item(unit.unit_id, unit.needs, sequences.cost(unit), lane))
    return Queue(items, frozenset(done))


def _failed(edits: pa.Table) -> int:
    return pc.sum(pc.equal(edits["status"], "failed")).as_py() or 0


def _lane(use: object) -> str:
    return repr(use)
