"""Writing on a thread of its own, in order, so that no worker waits for the disk."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

BACKLOG = 8


class Writer:
    """Does writes one after another; use it as a context manager, which waits for the last one."""

    def __init__(self) -> None:
        """Nothing is waiting yet."""
        self._thread = ThreadPoolExecutor(1, "editsweep-writer")
        self._waiting: deque[Future[object]] = deque()

    def __enter__(self) -> Self:
        """Ready."""
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Wait until all is written; an error of a write is raised unless there is one already."""
        self._thread.shutdown(wait=True)
        if error is None:
            self._check(0)

    def put(self, write: Callable[[], object]) -> None:
        """Have `write` called soon; waits when many are waiting already.

        Raises:
            Exception: whatever an earlier write raised.
        """
        self._waiting.append(self._thread.submit(write))
        self._check(BACKLOG)

    def _check(self, backlog: int) -> None:
        while self._waiting and (len(self._waiting) > backlog or self._waiting[0].done()):
            self._waiting.popleft().result()
