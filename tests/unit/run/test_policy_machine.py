"""The real queue and the real store under any history of deaths, errors and killed drivers.

EDITSWEEP_TEST_EXAMPLES runs more of them, drawn anew.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from editsweep.core import schema
from editsweep.run.policy import RAISES, Item, Queue, State
from editsweep.store.store import SweepStore

BASES = ("base0", "base1")
HEALTHY = tuple(f"u{i}" for i in range(5))
POISON = ("poison",)
UNITS = (*HEALTHY, *POISON)
MORE = os.environ.get("EDITSWEEP_TEST_EXAMPLES")


class Crash(BaseException):
    """The driver dies here."""


def items():
    bases = [Item(key, stage=0, lane="m") for key in BASES]
    edits = [Item(u, (BASES[i % 2],), float(i % 3), "m") for i, u in enumerate(UNITS)]
    return [*bases, *edits]


def made(unit, status):
    row = {
        "sweep_id": "s",
        "cell_id": "c",
        "unit_id": unit,
        "edit_id": f"{unit}e",
        "position": 0,
        "group": 0,
        "prompt": "p",
        "target_new": "x",
        "relation": "",
        "status": status,
    }
    rows = {"edits": [row], "measurements": [], "answers": []}
    return {kind: schema.to_ipc(schema.table(schema.PARTS[kind], r)) for kind, r in rows.items()}


class Driver(RuleBasedStateMachine):
    """What is done is what the store holds; a new driver knows nothing else."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(os, "fsync", lambda _: None)
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "t"
        self.bases = set()
        self.dead = set()
        self.start()

    def start(self):
        """A driver that goes on from what is kept."""
        self.store = SweepStore(self.folder)
        self.lock = self.store.locked()
        self.lock.__enter__()
        kept = set(self.store.committed())
        left = [item for item in items() if item.task_id not in kept | self.bases]
        self.queue = Queue(left, frozenset(self.bases))
        self.alone, self.steps = set(), 0
        self.deaths_alone, self.raises = dict.fromkeys(UNITS, 0), dict.fromkeys(UNITS, 0)

    def killed(self):
        self.lock.__exit__(None, None, None)
        self.start()

    def keep(self, unit, status="ok"):
        new = unit not in self.store.committed()
        assert self.store.commit(unit, made(unit, status), attempt=1, seconds=0, host="h") == new
        return new

    def bury(self):
        for unit, _ in self.queue.collect_dead():
            assert unit in POISON
            self.dead.add(unit)
            assert self.keep(unit, "failed")

    def take(self):
        self.steps += 1
        states = dict(self.queue.states())
        item = self.queue.take("m")
        if item and states[item.task_id] is State.SUSPECT:
            assert self.queue.running == (item.task_id,)
            self.alone.add(item.task_id)
        return item and item.task_id

    @rule(count=st.integers(1, 4))
    def dispatch(self, count):
        for _ in range(count):
            self.take()

    @precondition(lambda self: not self.alone & set(self.queue.running))
    @rule()
    def go_on_until_a_suspect_runs_alone(self):
        while True:
            for task in self.queue.running:
                if task in self.alone:
                    return
                self.end(task)
            if self.take() is None and not self.queue.running:
                return

    def end(self, task):
        """What comes of a task that nothing strikes."""
        self.alone.discard(task)
        if task in POISON:
            self.queue.died(task, "gone")
            self.bury()
            return
        if task in BASES:
            self.bases.add(task)
        else:
            assert self.keep(task)
        self.queue.finished(task)

    def drawn(self, data, tasks):
        running = [task for task in self.queue.running if task in tasks]
        return data.draw(st.sampled_from(running)) if running else None

    @precondition(lambda self: self.queue.running)
    @rule(data=st.data())
    def commit(self, data):
        self.end(data.draw(st.sampled_from(self.queue.running)))

    @precondition(lambda self: self.queue.running)
    @rule(data=st.data())
    def die(self, data):
        """A poison unit dies each time; a healthy one is not killed when it runs alone twice."""
        task = self.drawn(data, (*HEALTHY, *POISON))
        if task is None or (task in HEALTHY and task in self.alone and self.deaths_alone[task]):
            return
        self.deaths_alone[task] += task in self.alone
        self.alone.discard(task)
        self.queue.died(task, "gone")
        self.bury()

    @precondition(lambda self: self.queue.running)
    @rule(data=st.data())
    def raise_(self, data):
        """An error that passes: never as often as is allowed."""
        task = self.drawn(data, HEALTHY)
        if task is None or self.raises[task] == RAISES - 1:
            return
        self.raises[task] += 1
        self.alone.discard(task)
        self.queue.raised(task, "boom")
        self.bury()

    @precondition(lambda self: self.store.committed())
    @rule(data=st.data())
    def recommit(self, data):
        """A late answer for a unit that is kept changes nothing."""
        unit = data.draw(st.sampled_from(sorted(self.store.committed())))
        before = (self.folder / "manifest.jsonl").read_bytes()
        assert not self.keep(unit, "failed")
        assert (self.folder / "manifest.jsonl").read_bytes() == before

    @precondition(lambda self: self.steps > 3 and self.queue.running)
    @rule(data=st.data(), nth=st.integers(1, 6), name=st.sampled_from(["fsync", "rename"]))
    def kill_driver_in_a_commit(self, data, nth, name):
        unit = self.drawn(data, HEALTHY)
        if unit is None:
            return
        real, calls = getattr(os, name), 0

        def dying(*args):
            nonlocal calls
            calls += 1
            if calls == nth:
                raise Crash
            return real(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, name, dying)
            with suppress(Crash):
                self.keep(unit)
        self.killed()

    @precondition(lambda self: self.steps > 7)
    @rule()
    def kill_driver(self):
        self.killed()

    @invariant()
    def nothing_is_lost_and_nothing_is_there_twice(self):
        kept = set(self.store.committed())
        lines = (self.folder / "manifest.jsonl").read_bytes() if kept else b""
        assert lines.count(b"\n") == len(kept)
        over = (State.DONE, State.DEAD)
        pending = {u for u, state in self.queue.states().items() if state not in over}
        assert {*kept, *self.bases, *pending} == {*BASES, *UNITS}
        assert not pending & {*kept, *self.bases}
        assert self.dead <= kept

    def teardown(self):
        """From wherever it is, the sweep can be ended, and then its table is complete."""
        while not self.queue.over:
            while self.queue.take("m"):
                pass
            for task in self.queue.running:
                self.end(task)
        rows = self.store.table("edits").to_pylist()
        assert {row["unit_id"]: row["status"] for row in rows} == {
            unit: "failed" if unit in POISON else "ok" for unit in UNITS
        }
        assert len(rows) == len(UNITS)
        self.lock.__exit__(None, None, None)
        self.temporary.cleanup()
        self.patch.undo()


TestDriver = Driver.TestCase
TestDriver.settings = settings(
    max_examples=int(MORE or 30),
    derandomize=not MORE,
    stateful_step_count=40,
    deadline=None,
    database=None,
)
