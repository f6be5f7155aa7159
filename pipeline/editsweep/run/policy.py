"""What to do next, and what to do when something goes wrong. Pure: no clock, no Ray, no files.

    waiting ─► ready ─► running ─► done
                 ▲         │
                 │         └─ died or raised ─► suspect ─► running alone ─► done
                 │                                 ▲             │
                 └── what it needs is done         └── once more ┴─► dead

A task that was on a worker when that died may be its victim, not its killer. So it goes to the end
of the queue and runs with nothing beside it; only one that kills its worker alone, twice, is dead.
A task that raises gets two more chances: at the end of the queue, where an error that passes has
had the time to, then alone.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

NOT_MADE = "what it needs could not be made"
DEATHS_ALONE = 2
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
    alone: bool = False
    attempts: int = 0
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
    _ready: OrderedDict[str, None] = field(init=False, default_factory=OrderedDict)
    _suspects: dict[str, None] = field(init=False, default_factory=dict)
    _running: dict[str, None] = field(init=False, default_factory=dict)
    _waiting_for: dict[str, list[str]] = field(init=False, default_factory=dict)
    _just_died: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Sort the tasks: what others need, then the largest."""
        items = sorted(self.items, key=_rank)
        known = {item.task_id for item in items}
        if len(known) < len(items):
            raise ValueError("a task id stands twice")
        for item in items:
            needs = set(item.needs) - self.done
            if missing := needs - known:
                raise ValueError(f"{item.task_id} needs {sorted(missing)}, which nothing makes")
            self._entries[item.task_id] = _Entry(item, needs)
            for need in needs:
                self._waiting_for.setdefault(need, []).append(item.task_id)
            if not needs:
                self._ready[item.task_id] = None

    def take(self, lane: str | None = None) -> Item | None:
        """The next task for a worker that has the model `lane`; None when it has to wait.

        A worker keeps its model as long as there is work for it. Suspects come when nothing else
        is ready or running, and while one runs nothing else is given out.
        """
        if any(self._entries[task_id].alone for task_id in self._running):
            return None
        if self._ready:
            task_id = self._next_ready(lane)
            del self._ready[task_id]
        elif self._suspects and not self._running:
            task_id = next(iter(self._suspects))
            del self._suspects[task_id]
            self._entries[task_id].alone = True
        else:
            return None
        entry = self._entries[task_id]
        entry.state = State.RUNNING
        entry.attempts += 1
        self._running[task_id] = None
        return entry.item

    def finished(self, task_id: str) -> None:
        """A running task is done; what waited for it may be ready now.

        Of these, what is larger than the first in line goes before it: a sequence is as long as
        all that is left of it, and would otherwise run on alone when all else is done.
        """
        self._stop(task_id).state = State.DONE
        for waiting in self._waiting_for.get(task_id, ()):
            entry = self._entries[waiting]
            entry.open_needs.discard(task_id)
            if not entry.open_needs and entry.state is State.PENDING:
                first = next(iter(self._ready), waiting)
                self._ready[waiting] = None
                if _rank(entry.item) < _rank(self._entries[first].item):
                    self._ready.move_to_end(waiting, last=False)

    def raised(self, task_id: str, reason: str) -> None:
        """A running task raised an exception; `reason` is kept for its failure rows."""
        entry = self._stop(task_id)
        entry.raises += 1
        if entry.raises == 1 and not entry.alone:
            entry.state = State.PENDING
            self._ready[task_id] = None
        else:
            self._suspect(entry, reason, entry.raises >= RAISES)

    def died(self, task_id: str, reason: str) -> None:
        """The worker of a running task died."""
        entry = self._stop(task_id)
        entry.deaths_alone += entry.alone
        self._suspect(entry, reason, entry.deaths_alone >= DEATHS_ALONE)

    def attempts(self, task_id: str) -> int:
        """How often a task was given out."""
        return self._entries[task_id].attempts

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

    def _next_ready(self, lane: str | None) -> str:
        first = next(iter(self._ready))
        if lane is None or self._entries[first].item.lane == lane:
            return first
        own = (t for t in self._ready if self._entries[t].item.lane == lane)
        return next(own, first)

    def _stop(self, task_id: str) -> _Entry:
        if task_id not in self._running:
            raise ValueError(f"{task_id} is not running")
        del self._running[task_id]
        return self._entries[task_id]

    def _suspect(self, entry: _Entry, reason: str, is_dead: bool) -> None:
        if is_dead:
            self._bury(entry.item.task_id, reason)
        else:
            entry.state = State.SUSPECT
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
            self._just_died.append(dead)
            for waiting in self._waiting_for.get(dead, ()):
                if self._entries[waiting].state is State.PENDING:
                    todo.append((waiting, f"{NOT_MADE}: {reason}"))


def _rank(item: Item) -> tuple[int, float]:
    """What others need comes first, then the largest."""
    return item.stage, -item.cost
