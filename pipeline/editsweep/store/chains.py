"""The states of sequences: one file a sequence, that of its last checkpoint.

<folder>/chains/<cell>/<unit>.<sha256>.safetensors    where the sequence stood after that unit
<folder>/chains/<cell>/<unit>.lost                    why it ended there, as text

A state is written before its unit is committed, and the one before it is removed after that. So
there is always one from which the sequence can go on.
"""

import hashlib
from pathlib import Path

from editsweep.core.names import safe_name
from editsweep.store import durable

SUFFIX = ".safetensors"


class ChainFiles:
    """The states under `folder`/chains; only the driver of the folder may write."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the sweep's; nothing is made before something is kept."""
        self.folder = Path(folder) / "chains"

    def keep(self, cell_id: str, unit_id: str, data: bytes) -> None:
        """Write one state durably.

        Raises:
            StoreError: it cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        self._write(cell_id, f"{safe_name('unit', unit_id)}.{digest}{SUFFIX}", data)
        with durable.explained(self._home(cell_id), "remove an old state of a sequence"):
            for stale in self._home(cell_id).glob(f"{unit_id}.*"):
                if digest not in stale.name:
                    stale.unlink()

    def lose(self, cell_id: str, unit_id: str, reason: str) -> None:
        """Write down that the sequence ended with this unit, and why.

        Raises:
            StoreError: it cannot be written.
        """
        self._write(cell_id, f"{safe_name('unit', unit_id)}.lost", reason.encode())

    def forget(self, cell_id: str, unit_id: str) -> None:
        """Remove a unit's state, if it is there.

        Raises:
            StoreError: it cannot be removed.
        """
        with durable.explained(self._home(cell_id), "remove an old state of a sequence"):
            for path in self._home(cell_id).glob(f"{unit_id}.*"):
                path.unlink(missing_ok=True)

    def path(self, cell_id: str, unit_id: str) -> Path | None:
        """The file of a unit's state, or None; whether it is whole is not looked at."""
        return next(iter(sorted(self._home(cell_id).glob(f"{unit_id}.*{SUFFIX}"))), None)

    def find(self, cell_id: str, unit_id: str) -> bytes | None:
        """A unit's state; None if it is not there or not what was written."""
        path = self.path(cell_id, unit_id)
        data = path.read_bytes() if path else b""
        if path is None or path.name != f"{unit_id}.{hashlib.sha256(data).hexdigest()}{SUFFIX}":
            return None
        return data

    def why_lost(self, cell_id: str, unit_id: str) -> str | None:
        """Why the sequence ended with this unit; None if it did not."""
        path = self._home(cell_id) / f"{unit_id}.lost"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def _home(self, cell_id: str) -> Path:
        return self.folder / safe_name("cell", cell_id)

    def _write(self, cell_id: str, name: str, data: bytes) -> None:
        home = self._home(cell_id)
        with durable.explained(home, "keep the state of a sequence"):
            draft = self.folder.parent / ".tmp" / name
            for folder in (home, draft.parent):
                folder.mkdir(parents=True, exist_ok=True)
            durable.write_file(draft, data)
            draft.replace(home / name)
            for folder in (home, self.folder, self.folder.parent):
                durable.sync_folder(folder)
