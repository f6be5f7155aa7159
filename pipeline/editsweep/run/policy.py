"""What to do next, and what to do when something goes wrong. Pure: no clock, no Ray, no files.

    waiting ─► ready ─► running ─► done
                 ▲       │ │
                 ├───────┘ └─ died or raised ─► suspect ─► running alone ─► done
                 │ node lost                       ▲             │
                 └── what it needs is done         └── once more ┴─► dead

A task that was on a worker when that died may be its victim, not its killer. So it goes to the end
of the queue and runs with nothing beside it; only one that kills its worker alone, twice, is dead.
A task that raises gets two more chances: at the end of the queue, where an error that passes has
had the time to, then alone. One whose node was lost is simply done again, unless that happens to
it time after time: it may be what takes the nodes down.

A task may run in two copies. The first that is done counts; while one still runs, what becomes of
the other decides nothing.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import isfinite
from typing import Literal

NOT_MADE = "what it needs could not be made"
DEATHS_ALONE = 2
LOSSES = 3
RAISES = 3


class State(Enum):
    """Where a task stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPECT = "suspect"
    DONE = "done"
    DEAD = "dead"


@dataclass(frozen=True)
class Item:
    """One task as the queue sees it.

    `needs` are ids of tasks that must be done first, `cost` is its size (larger goes first), `lane`
    the model it runs on, and `stage` 0 for what others need.
    """

    task_id: str
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    lane: str = ""
    stage: int = 1


@dataclass
class _Entry:
    item: Item
    open_needs: set[str]
    state: State = State.PENDING
    counted: bool = False
    copied: bool = False
    attempts: int = 0
    losses: int = 0
    deaths_alone: int = 0
    raises: int = 0
    reason: str = ""


@dataclass
class Queue:
    """All tasks of a run, each in one state. Every change is made by one of the methods.

    Raises:
        ValueError: (when made) an id stands twice, or a need is neither a task nor already `done`.
    """

    items: Iterable[Item]
    done: frozenset[str] = frozenset()
    _entries: dict[str, _Entry] = field(init=False, default_factory=dict)
    # By lane, each in order; a lane without any is not there.
    _ready: dict[str, OrderedDict[str, None]] = field(init=False, default_factory=dict)
    # By lane, the cost of what is not given out yet.
    _left: dict[str, float] = field(init=False, default_factory=lambda: defaultdict(float))
    _suspects: dict[str, None] = field(init=False, default_factory=dict)
    # How many copies of each are given out.
    _running: dict[str, int] = field(init=False, default_factory=dict)
    _alone: str = field(init=False, default="")
    _waiting_for: dict[str, list[str]] = field(init=False, default_factory=dict)
    _just_died: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Sort the tasks: what others need, then the largest."""
        items = sorted(self.items, key=_rank)
        stages = {item.task_id: item.stage for item in items}
        if len(stages) < len(items):
            raise ValueError("a task id stands twice")
        for item in items:
            needs = set(item.needs) - self.done
            if missing := sorted(need for need in needs if need not in stages):
                raise ValueError(f"{item.task_id} needs {missing}, which nothing makes")
            entry = self._entries[item.task_id] = _Entry(item, needs)
            for need in needs:
                self._waiting_for.setdefault(need, []).append(item.task_id)
            # What waits for its turn in a sequence is in the cost of what runs before it.
            if not any(stages[need] for need in needs):
                self._count(entry)
            if not needs:
                self._ready.setdefault(item.lane, OrderedDict())[item.task_id] = None

    def take(
        self, lane: str | None = None, holders: Mapping[str, int] | None = None
    ) -> Item | None:
        """The next task for a worker that has the model `lane`; None when it has to wait.

        A worker keeps its model as long as there is work for it. One without a model, or without
        work for its own, gets the model with the most work for each of the `holders` that have it,
        itself among them. Suspects come when nothing else is ready or running, and while one runs
        nothing else is given out.
        """
        if self._alone:
            return None
        if self._ready:
            task_id = next(iter(self._ready[self._next_lane(lane, holders or {})]))
            self._unready(self._entries[task_id])
        elif self._suspects and not self._running:
            task_id = next(iter(self._suspects))
            del self._suspects[task_id]
            self._alone = task_id
        else:
            return None
        return self._given(task_id)

    def second(self, late: Iterable[str]) -> Item | None:
        """One of the running tasks `late` once more, the first that may; None if there is none.

        Only when nothing is ready, and never of what runs alone or is needed by others.
        """
        if self._ready or self._alone:
            return None
        for task_id in late:
            entry = self._entries[task_id]
            if task_id in self._running and entry.item.stage and not entry.copied:
                entry.copied = True
                return self._given(task_id)
        return None

    def finished(self, task_id: str) -> bool:
        """A running task is done; what waited for it may be ready now. Whether a copy still runs.

        Of what is ready now, what is larger than the first in line goes before it: a sequence is as
        long as all that is left of it, and would otherwise run on alone when all else is done.
        """
        copies = self._running.get(task_id, 0)
        entry = self._stop(task_id, copies)
        assert entry is not None
        entry.state = State.DONE
        for waiting in self._waiting_for.get(task_id, ()):
            other = self._entries[waiting]
            other.open_needs.discard(task_id)
            if not other.open_needs and other.state is State.PENDING:
                self._make_ready(other)
        return copies > 1

    def raised(self, task_id: str, reason: str) -> None:
        """A running task raised an exception; `reason` is kept for its failure rows."""
        alone = self._alone == task_id
        entry = self._stop(task_id)
        if entry is None:
            return
        entry.raises += 1
        if entry.raises == 1 and not alone:
            entry.state, entry.copied = State.PENDING, False
            self._make_ready(entry, "end")
        else:
            self._suspect(entry, reason, entry.raises >= RAISES)

    def died(self, task_id: str, reason: str, node_lost: bool = False) -> None:
        """The worker of a running task died, with its whole node if `node_lost`."""
        alone = self._alone == task_id
        entry = self._stop(task_id)
        if entry is None:
            return
        entry.losses += node_lost
        forgiven = node_lost and entry.losses <= LOSSES
        if forgiven and not alone:
            entry.state, entry.copied = State.PENDING, False
            self._make_ready(entry, "front")
            return
        entry.deaths_alone += alone and not forgiven
        self._suspect(entry, reason, entry.deaths_alone >= DEATHS_ALONE)

    def is_running(self, task_id: str) -> bool:
        """Whether a task is given out."""
        return task_id in self._running

    def attempts(self, task_id: str) -> int:
        """How often a task was given out; 0 for one that is not of this queue."""
        return self._entries[task_id].attempts if task_id in self._entries else 0

    def states(self) -> Mapping[str, State]:
        """Every task's state."""
        return {task_id: entry.state for task_id, entry in self._entries.items()}

    def collect_dead(self) -> list[tuple[str, str]]:
        """Tasks that died since the last call, each with its reason, also those it took along."""
        died, self._just_died = self._just_died, []
        return [(task_id, self._entries[task_id].reason) for task_id in died]

    @property
    def running(self) -> tuple[str, ...]:
        """The tasks that are given out, oldest first."""
        return tuple(self._running)

    @property
    def over(self) -> bool:
        """Whether every task is done or dead."""
        return not (self._ready or self._suspects or self._running)

    def _next_lane(self, lane: str | None, holders: Mapping[str, int]) -> str:
        if lane in self._ready:
            return str(lane)

        def order(other: str) -> tuple[float, int, tuple[int, float]]:
            first = self._entries[next(iter(self._ready[other]))].item
            held = holders.get(other, 0)
            return -self._left[other] / (held + 1), held, _rank(first)

        return min(self._ready, key=order)

    def _given(self, task_id: str) -> Item:
        entry = self._entries[task_id]
        entry.state = State.RUNNING
        entry.attempts += 1
        self._running[task_id] = self._running.get(task_id, 0) + 1
        return entry.item

    def _stop(self, task_id: str, copies: int = 1) -> _Entry | None:
        """So many copies of a task run no more; None if one still does."""
        if task_id not in self._running:
            raise ValueError(f"{task_id} is not running")
        self._running[task_id] -= copies
        if self._running[task_id]:
            return None
        del self._running[task_id]
        if self._alone == task_id:
            self._alone = ""
        return self._entries[task_id]

    def _make_ready(self, entry: _Entry, where: Literal["size", "front", "end"] = "size") -> None:
        """Into its lane; by `size` at the front if it is larger than the first, else at the end."""
        task_id, line = entry.item.task_id, self._ready.setdefault(entry.item.lane, OrderedDict())
        first = next(iter(line), task_id)
        line[task_id] = None
        is_larger = _rank(entry.item) < _rank(self._entries[first].item)
        if where == "front" or (where == "size" and is_larger):
            line.move_to_end(task_id, last=False)
        self._count(entry)

    def _unready(self, entry: _Entry) -> None:
        line = self._ready[entry.item.lane]
        del line[entry.item.task_id]
        if not line:
            del self._ready[entry.item.lane]
        self._uncount(entry)

    def _count(self, entry: _Entry) -> None:
        if not entry.counted and isfinite(entry.item.cost):
            entry.counted = True
            self._left[entry.item.lane] += entry.item.cost

    def _uncount(self, entry: _Entry) -> None:
        if entry.counted:
            entry.counted = False
            self._left[entry.item.lane] -= entry.item.cost

    def _suspect(self, entry: _Entry, reason: str, is_dead: bool) -> None:
        if is_dead:
            self._bury(entry.item.task_id, reason)
        else:
            entry.state, entry.copied = State.SUSPECT, False
            self._suspects[entry.item.task_id] = None

    def _bury(self, task_id: str, reason: str) -> None:
        """This task is dead, and with it all that wait for it."""
        todo = deque([(task_id, reason)])
        while todo:
            dead, why = todo.popleft()
            entry = self._entries[dead]
            if entry.state is State.DEAD:
                continue
            entry.state, entry.reason = State.DEAD, why
            self._uncount(entry)
            self._just_died.append(dead)
            for waiting in self._waiting_for.get(dead, ()):
                if self._entries[waiting].state is State.PENDING:
                    todo.append((waiting, f"{NOT_MADE}: {reason}"))


def _rank(item: Item) -> tuple[int, float]:
    """What others need comes first, then the largest."""
    return item.stage, -item.cost
