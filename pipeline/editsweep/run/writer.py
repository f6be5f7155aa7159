"""Writing on a thread of its own, in order, so that no worker waits for the disk.

Units that wait are kept together: a disk that is asked once for many of them does many more a second.
"""

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Self

from editsweep.store.store import Done, SweepStore

BACKLOG = 64
_Write = Done | Mapping[str, object] | Callable[[], object]


class Writer:
    """Does writes one after another; use it as a context manager, which waits for the last one.

    After a write that raised nothing more is written.
    """

    def __init__(self, store: SweepStore) -> None:
        """Nothing is waiting yet; `store` is the locked folder that units are kept in."""
        self._store = store
        self._waiting: queue.Queue[_Write | None] = queue.Queue(BACKLOG)
        self._thread = threading.Thread(target=self._work, name="editsweep-writer", daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Wait until all is written; an error of a write is raised unless there is one already."""
        self._waiting.put(None)
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def put(self, write: _Write) -> None:
        """Have a unit kept, an event noted or a function called soon; waits when many are waiting.

        A function is called after all that was put before it, and an event noted after all units
        that were. Units and events may change places with each other, not with functions.

        Raises:
            Exception: whatever an earlier write raised.
        """
        if self._error is not None:
            raise self._error
        self._waiting.put(write)

    def _work(self) -> None:
        ended = False
        while not ended:
            taken = [self._waiting.get()]
            while not self._waiting.empty():
                taken.append(self._waiting.get())
            ended = taken[-1] is None
            if self._error is None:
                try:
                    self._write([write for write in taken if write is not None])
                except BaseException as error:
                    self._error = error

    def _write(self, taken: list[_Write]) -> None:
        units: list[Done] = []
        events: list[Mapping[str, object]] = []
        for write in taken:
            if isinstance(write, Done):
                units.append(write)
            elif isinstance(write, Mapping):
                events.append(write)
            else:
                self._keep(units, events)
                units, events = [], []
                write()
        self._keep(units, events)

    def _keep(self, units: list[Done], events: list[Mapping[str, object]]) -> None:
        if units:
            self._store.commit_all(units)
        for event in events:
            self._store.event(**event)
