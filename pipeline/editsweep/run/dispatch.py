"""The loop of a run: give tasks to workers, keep what comes back, until nothing is left to do.

The driver is the only writer, on a thread of its own. What the unedited model said lies in `<folder>/base/` so that a run
that goes on has it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc

from editsweep.core import schema
from editsweep.errors import ConfigError, DataError, EditSweepError, ModelError, WorkerError
from editsweep.run.base_answers import BaseAnswers
from editsweep.run.budget import Budget
from editsweep.run.error_kinds import COLUMNS, by_kind, shortened
from editsweep.run.error_kinds import failed as failed_rows
from editsweep.run.evaluate import UnitIds, failed_unit
from editsweep.run.executor import Executor
from editsweep.run.failures import unasked_unit
from editsweep.run.meters import Meters
from editsweep.run.pace import Pace
from editsweep.run.plan import Plan
from editsweep.run.policy import NOT_MADE, Item, Queue
from editsweep.run.progress import Progress, Snapshot
from editsweep.run.resolve import ModelUse
from editsweep.run.sequences import Sequences
from editsweep.run.stop import Stop
from editsweep.run.tasks import AssetTask, BaseTask, Died, EditTask, Event, Failure, Outcome, Task
from editsweep.run.units import Unit
from editsweep.run.writer import Writer
from editsweep.store.store import Done, SweepStore

WAIT_S = 1.0
DEATHS_AT_START = 4
# Without any worker: the seconds after which that is said, and after which the run ends.
SAID_S, PATIENCE_S = 30.0, 600.0
_SETUP_ERRORS: Mapping[str, type[EditSweepError]] = {
    error.__name__: error for error in (ConfigError, DataError, ModelError)
}
# What is said of a worker that is gone, why its task failed if that goes on, and what may help.
_GONE: Mapping[str, tuple[str, str, str]] = {
    "worker_died": (
        "A worker died and was replaced",
        "its worker died each time, also when it ran alone",
        "Is there memory for the model in each worker? Try fewer --workers",
    ),
    "node_lost": (
        "A node was lost with its worker, what that did is done again",
        "the node that it ran on was lost each time, also when it ran alone",
        "",
    ),
    "gpu_failed": (
        "A worker was replaced, its GPU had failed",
        "the GPU of its worker failed each time, also when it ran alone",
        "Do the GPUs work? See nvidia-smi, and the kernel's log for Xid errors, on each node",
    ),
    "timeout": (
        "A worker was ended and replaced",
        "it ran longer than --unit-timeout each time, also when it ran alone",
        "Is --unit-timeout too short? It also holds for the loading of the model",
    ),
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
        self._said_kinds: set[str] = set()
        self._meters: Meters | None = None
        self._writer = Writer(store)
        self._holds: dict[int, tuple[str, str]] = {}  # each worker's lane and last task
        self._pace = Pace()
        self._without_since: float | None = None
        self._said_waiting = False
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
            WorkerError: workers die and nothing gets done, or there is none for a long time.
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
                if self._stop.asked and not self._queue.running:
                    return
                self._await_workers()
                for event in executor.wait(WAIT_S):
                    self._take_in(event, executor)
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
        idle = executor.idle()
        if not self._holds.keys() >= set(idle):
            self._forget_gone(idle)
        holders = Counter(lane for lane, _ in self._holds.values())
        for worker in idle:
            before, _ = self._holds.get(worker, (None, ""))
            item = self._queue.take(before, holders) or self._second()
            if item is None:
                return
            holders.update({item.lane: 1} if before is None else {before: -1, item.lane: 1})
            self._holds[worker] = (item.lane, item.task_id)
            if item.task_id in self._units:
                self._pace.start(item.task_id, self._units[item.task_id].cell_id, monotonic())
            executor.submit(worker, self._task(item.task_id))

    def _second(self) -> Item | None:
        """A straggler once more; whichever copy is done first counts."""
        item = self._queue.second(self._pace.late(monotonic()))
        if item is not None:
            self._note(event="second_copy", task=item.task_id)
        return item

    def _forget_gone(self, idle: list[int]) -> None:
        """Workers that came are a sign that others went; those have neither leisure nor a task."""
        self._holds = {
            worker: (lane, task_id)
            for worker, (lane, task_id) in self._holds.items()
            if worker in idle or self._queue.is_running(task_id)
        }

    def _await_workers(self) -> None:
        """Say once that there is no worker, and do not wait for one for ever."""
        if self._queue.running:
            self._without_since = None
            return
        now, before = monotonic(), self._without_since
        if before is None:
            self._without_since = now
        elif now - before > PATIENCE_S:
            raise WorkerError(
                f"no worker could be started for {PATIENCE_S / 60:.0f} minutes: the cluster has no "
                "room for one. When it has, the same command goes on"
            )
        elif now - before > SAID_S and not self._said_waiting:
            self._said_waiting = True
            self._progress.say("No worker runs: waiting until the cluster has room for one ...")

    def _take_in(self, event: Event, executor: Executor) -> None:
        task_id = event.task_id
        if not self._queue.is_running(task_id):  # the copy that came second
            return
        if isinstance(event, Died):
            self._died(event)
        else:
            if event.loaded is not None:
                self._note(event="loaded", device=event.device, **asdict(event.loaded))
            if event.failure is not None:
                self._raised(task_id, event.failure)
            else:
                self._succeeded(event, executor)
        if not self._queue.is_running(task_id):
            self._pace.stop(task_id)

    def _succeeded(self, outcome: Outcome, executor: Executor) -> None:
        task_id = outcome.task_id
        self._keep(outcome)
        if task_id in self._units:
            self._pace.done(task_id, monotonic())
        if self._queue.finished(task_id):
            executor.drop(task_id)
        self._finished = True

    def _keep(self, outcome: Outcome) -> None:
        task_id = outcome.task_id
        if task_id in self._units:
            self._done(self._units[task_id], outcome)
        elif task_id in self._plan.bases:
            slice_ = self._plan.bases[task_id]
            self._bases.keep(task_id, outcome.parts["base"])
            self._prepared("base", slice_.model, len(slice_.requests), outcome)
        elif not outcome.found:
            self._prepared("asset", self._plan.assets[task_id].model, 1, outcome)

    def _prepared(self, kind: str, use: ModelUse, edits: int, outcome: Outcome) -> None:
        took = {"seconds": round(outcome.work_s, 3), "device": outcome.device}
        model = use.entry.name
        self._note(
            event="prepared", task=outcome.task_id, kind=kind, model=model, edits=edits, **took
        )

    def _done(self, unit: Unit, outcome: Outcome) -> None:
        """The state of a sequence is on the disk before the unit counts, the old one until then."""
        if outcome.chain is not None:
            self._sequences.leave(unit, outcome.chain, self._writer)
        if unit.unit_id not in self._committed:
            attempt = self._queue.attempts(unit.unit_id)
            self._commit(unit, outcome.parts, attempt, outcome)
        self._sequences.left_behind(unit, self._writer)

    def _commit(
        self, unit: Unit, parts: Mapping[str, bytes], attempt: int, outcome: Outcome | None = None
    ) -> None:
        """Keep a unit; one that came to nothing has no `outcome`."""
        key = unit.unit_id
        seconds, host = (outcome.seconds, outcome.host) if outcome else (0.0, "")
        edits = unit.stop - unit.start
        self._edits_now += edits
        self._edits_left -= edits
        made = schema.from_ipc(parts["edits"], ["status", "edit_s"])
        failed = _failed(made)
        self._failed += failed
        cell = self._plan.cells[unit.cell_id]
        if failed:
            self._say_new_kinds(parts["edits"], {unit.cell_id: cell.label})
        if self._meters:
            self._meters.edited(cell.editor.name, made["edit_s"].to_pylist())
        self._writer.put(Done(key, parts, attempt, seconds, host))
        done = {"unit": key, "edits": edits, "failed": failed, "seconds": round(seconds, 3)}
        took: dict[str, object] = {}
        if outcome is not None:
            edit_s = pc.sum(made["edit_s"]).as_py() or 0.0
            took = {"work_s": round(outcome.work_s, 3), "edit_s": round(edit_s, 3)}
            took["device"] = outcome.device
        self._note(event="committed", cell=cell.label, attempt=attempt, **done, **took)

    def _say_new_kinds(self, edits: bytes, labels: Mapping[str, str]) -> None:
        """The first edit of each kind of error; the others are counted."""
        for kind in by_kind(failed_rows(schema.from_ipc(edits, COLUMNS), labels)):
            if kind.kind not in self._said_kinds:
                self._said_kinds.add(kind.kind)
                self._progress.say(
                    f"A first edit failed: {kind.kind}, {kind.edit_id[:12]} of {kind.cell}: "
                    f"{shortened(kind.text)}"
                )

    def _note(self, **fields: object) -> None:
        self._writer.put(fields)
        if self._meters:
            self._meters.event(fields)

    def _raised(self, task_id: str, failure: Failure) -> None:
        self._note(
            event="raised", task=task_id, kind=failure.kind, text=failure.text, trace=failure.trace
        )
        if failure.is_broken:  # of a worker in a process of its own this would be its death
            raise WorkerError(
                f"the GPU failed, and this process can do no more on it ({failure.text}). The same "
                "command goes on; with --executor ray a worker that meets this is replaced"
            )
        if failure.is_setup:
            raise _SETUP_ERRORS.get(failure.kind, ConfigError)(failure.text)
        self._kinds[task_id] = failure
        self._queue.raised(task_id, f"{failure.kind}: {failure.text}")

    def _died(self, event: Died) -> None:
        said, why, hint = _GONE[event.kind]
        self._note(event="worker_died", task=event.task_id, kind=event.kind, text=event.reason)
        self._progress.say(f"{said} ({event.reason})")
        node_lost = event.kind == "node_lost"
        self._deaths += not node_lost
        if self._deaths >= DEATHS_AT_START and not self._finished:
            raise WorkerError(
                f"{self._deaths} workers died and no task was finished, the last: {event.reason}. "
                f"{hint}"
            )
        self._kinds[event.task_id] = Failure(event.kind, why, "", False)
        self._queue.died(event.task_id, why, node_lost)

    def _bury(self) -> None:
        """Units that came to nothing become rows with the reason."""
        for task_id, reason in self._queue.collect_dead():
            if task_id not in self._units:
                self._progress.say(f"Could not prepare what some edits need ({reason})")
                continue
            kind, text = "not_prepared", reason
            if not reason.startswith(NOT_MADE):
                kind, text = self._kinds[task_id].kind, self._kinds[task_id].text
            self._lose(self._units[task_id], kind, text, reason)

    def _lose(self, unit: Unit, kind: str, text: str, reason: str) -> None:
        """Every edit of the unit fails; a sequence ends here, and a later run will know it."""
        if unit.unit_id in self._committed:
            return
        self._sequences.end(unit, reason, self._writer)
        self._commit(unit, self._lost(unit, kind, text), self._queue.attempts(unit.unit_id))

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
        cell = plan.cells[unit.cell_id]
        return EditTask(
            task_id=task_id,
            model=cell.model,
            spec=cell.editor.spec,
            restrain=cell.editor.restrain,
            recipes=cell.recipes,
            groups=tuple(plan.groups(unit)),
            base=self._base_file(unit),
            ids=self._ids(unit),
            seed=cell.seed,
            settings=plan.settings,
            chain=self._sequences.state(unit),
            again=plan.again(unit),
        )

    def _base_file(self, unit: Unit) -> bytes:
        """The same as one IPC file: as it lies on the disk where the unit is exactly one slice."""
        keys = [need for need in unit.needs if need in self._plan.bases]
        asked = unit.stop - unit.start + len(unit.again)
        if len(keys) == 1 and len(self._plan.bases[keys[0]].requests) == asked:
            data = self._bases.file(keys[0])
            assert data is not None
            return data
        base = self._base(unit)
        assert base is not None
        return schema.to_ipc(base)

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
