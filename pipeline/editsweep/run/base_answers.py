"""What the unedited model said, kept beside a sweep's results so that a run that goes on has it."""

from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from editsweep.core import schema
from editsweep.store import durable


class BaseAnswers:
    """What the unedited model said, one Arrow file a slice: `<slice>.<sha256 of the file>.arrow`."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made when something is kept; nobody else writes to it from now on."""
        self._folder = folder
        self._paths: dict[str, list[Path]] = {}
        for path in sorted(folder.glob("*.arrow")):
            self._paths.setdefault(path.name.split(".")[0], []).append(path)

    def keep(self, key: str, data: bytes) -> None:
        """Write one slice's answers; they can be had again, so this does not wait for the disk.

        Raises:
            StoreError: they cannot be written.
        """
        with durable.explained(self._folder, "keep what the unedited model said"):
            self._folder.mkdir(exist_ok=True)
            draft = self._folder / f".{key}"
            draft.write_bytes(data)
            path = self._folder / f"{key}.{sha256(data).hexdigest()}.arrow"
            draft.replace(path)
        self._paths[key] = [path]

    def find(self, key: str) -> pa.Table | None:
        """One slice's answers, or None when they are not there or not what was written."""
        data = self.file(key)
        return None if data is None else schema.from_ipc(data)

    def file(self, key: str) -> bytes | None:
        """The same as the IPC file that it is."""
        for path in self._paths.get(key, ()):
            data = path.read_bytes() if path.exists() else b""
            if path.name == f"{key}.{sha256(data).hexdigest()}.arrow":
                return data
        return None
