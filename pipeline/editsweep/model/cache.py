"""The folder of things that are made once: de-quantised weights, second moments, indexes.

A target's name is derived from its content or from what it is made of, so whoever comes first
makes it, everybody else finds it, and nothing in it is ever changed.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_root() -> Path:
    """`$EDITSWEEP_CACHE`, else `$XDG_CACHE_HOME/editsweep`, else `~/.cache/editsweep`."""
    if named := os.environ.get("EDITSWEEP_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "editsweep"


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(write: Callable[[Path], None], target: Path) -> Path:
    """`target`, made by `write` unless it is there; it appears whole or not at all.

    `write` gets a path beside the target at which nothing stands yet, and makes a file or a folder
    there. Of processes that race, the first one's result stays and all of them succeed.

    Raises:
        OSError: the cache cannot be written; whatever `write` raises, with nothing left behind.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        made = Path(scratch) / "made"
        write(made)
        _sync(made)
        try:
            if not target.exists():
                made.rename(target)
        except OSError:  # a folder is not renamed onto one with files in it: another was first
            if not target.exists():
                raise
    return target


def _sync(path: Path) -> None:
    """`path`, and for a folder all that is in it, to the disk."""
    for inner in path.iterdir() if path.is_dir() else ():
        _sync(inner)
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
