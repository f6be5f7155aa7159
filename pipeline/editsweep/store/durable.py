"""Writes that survive a crash: bytes reach the disk before a name points at them."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from editsweep.errors import StoreError


@contextmanager
def explained(folder: Path, what: str) -> Iterator[None]:
    """Within the block an error of the disk says what could not be done and how to go on.

    Raises:
        StoreError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot {what}: {error.strerror or error}. Make room or mend the "
            "folder's rights, then give the same command again; what was kept stays."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to a new or truncated `path` and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Give `path` the content `data` in one step: a reader sees the old or the new, never half."""
    draft = path.parent / ".tmp" / f"{path.name}.{os.getpid()}"
    draft.parent.mkdir(exist_ok=True)
    write_file(draft, data)
    draft.replace(path)
    sync_folder(path.parent)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `folder`, empty before, hold exactly `files`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        write_file(folder / name, data)
    sync_folder(folder)


def move_folders(targets: Mapping[Path, Path]) -> None:
    """Rename folders to free names in the same file system; each parent waits for the disk once."""
    for source, target in targets.items():
        source.rename(target)
    for parent in dict.fromkeys(target.parent for target in targets.values()):
        sync_folder(parent)


def append_line(path: Path, text: str, wait: bool = True) -> None:
    """Append one line, or several with line ends between; if asked to `wait`, until they are safe.

    Raises:
        OSError: it could not be written; the file is as it was before.
    """
    with path.open("ab") as file:
        before = file.tell()
        try:
            file.write(text.encode() + b"\n")
            file.flush()
            if wait:
                os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), before)
            raise


def drop_torn_line(path: Path) -> None:
    """Cut away what follows the last line end: the trace of a writer that died."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
