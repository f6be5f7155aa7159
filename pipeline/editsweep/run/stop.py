"""Ctrl-C: the first lets work in flight end and be kept, the second ends the run at once.

SIGTERM is the same. SIGUSR1 is a scheduler's warning: it asks as the first does, and never aborts.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Whether somebody asked this run to end."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block SIGTERM raises KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stoppable(say: Callable[[str], None]) -> Iterator[Stop]:
    """Within the block SIGINT, SIGTERM and SIGUSR1 set `asked`.

    After that SIGINT and SIGTERM raise KeyboardInterrupt, and SIGUSR1 does nothing.
    """
    stop = Stop()

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            if number == signal.SIGUSR1:
                return
            raise KeyboardInterrupt
        stop.asked = True
        say("Stopping: what is in flight will be finished and kept (once more to stop at once).")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in _ASKING}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def own_handler() -> Iterator[None]:
    """Within the block others may handle SIGTERM; a handler of ours is back after it.

    Ray sets one when it starts or joins a cluster, and would end a run that should drain.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before):
            signal.signal(signal.SIGTERM, before)
