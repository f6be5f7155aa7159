"""How long tasks of a kind take, and which of those that run take much longer. Pure: no clock."""

from collections import deque
from collections.abc import Iterator
from statistics import median

# Before that, a copy would cost more than it saves: its worker may have to load the model.
LATE_S = 5.0
LATE = 2.0
REMEMBERED = 101


class Pace:
    """Of tasks that were started and not ended, tells which are late. Times are in seconds."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._since: dict[str, tuple[float, str]] = {}
        self._took: dict[str, deque[float]] = {}
        self._all: deque[float] = deque(maxlen=REMEMBERED)

    def start(self, task_id: str, kind: str, now: float) -> None:
        """A task was given out; of two copies the first counts."""
        self._since.setdefault(task_id, (now, kind))

    def done(self, task_id: str, now: float) -> None:
        """A task is done; how long it took is remembered, of each kind the latest."""
        since, kind = self._since.pop(task_id)
        self._took.setdefault(kind, deque(maxlen=REMEMBERED)).append(now - since)
        self._all.append(now - since)

    def stop(self, task_id: str) -> None:
        """A task that came to nothing runs no more."""
        self._since.pop(task_id, None)

    def late(self, now: float) -> Iterator[str]:
        """Tasks that have run `LATE` times as long as is usual for their kind, the longest first.

        Where none of a kind was done, all kinds say what is usual; before the first, nothing is
        late.
        """
        usual: dict[str, float] = {}
        for task_id, (since, kind) in sorted(self._since.items(), key=lambda entry: entry[1][0]):
            took = self._took.get(kind) or self._all
            if kind not in usual and took:
                usual[kind] = median(took)
            if kind in usual and now - since > max(LATE_S, LATE * usual[kind]):
                yield task_id
