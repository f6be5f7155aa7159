"""One driver a folder: an advisory lock that ends with its process, however that dies."""

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from editsweep.errors import StoreError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path` alone for the length of the block.

    Raises:
        StoreError: another process holds it; the message names its pid and host.
        OSError: the file cannot be opened.
    """

    def refuse(holder: str) -> NoReturn:
        raise StoreError(
            f"{path.parent} is in use by {holder}; wait for it or end it, or choose another --out"
        ) from None

    with in_turn(path, refuse):
        yield


@contextmanager
def in_turn(path: Path, waits_for: Callable[[str], None]) -> Iterator[None]:
    """Hold `path` alone for the length of the block, after whoever holds it now.

    `waits_for` is told who that is, if anybody; what it raises is raised.

    Raises:
        OSError: the file cannot be opened.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits_for(_holder(handle))
            fcntl.flock(handle, fcntl.LOCK_EX)
        _sign(handle)
        yield
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether anybody holds `path` now."""
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _sign(handle: int) -> None:
    said = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
    os.ftruncate(handle, 0)
    os.pwrite(handle, said.encode(), 0)


def _holder(handle: int) -> str:
    """Who says to hold the lock. A holder that has only just taken it may not have said yet."""
    try:
        said = json.loads(os.pread(handle, 4096, 0))
        return f"process {said['pid']} on {said['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
