"""Work on files done by a few threads ahead of who wants it: reading, hashing and waiting for a disk."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 4
# A disk that many wait for together writes more a second.
WAITING = 16
AHEAD = 32
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def ahead(
    work: Callable[[_In], _Out], items: Sequence[_In], threads: int = THREADS
) -> Iterator[_Out]:
    """`work` of each item, in order; at most `AHEAD` are done and not yet taken.

    Raises:
        BaseException: what `work` raised; later items may be done or not.
    """
    if len(items) < 2:
        yield from map(work, items)
        return
    waiting: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(min(threads, len(items)), "editsweep-files") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
