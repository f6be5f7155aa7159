"""The `lecture` dataset: the examples that the field is taught with, in Chinese and English."""

from dataclasses import dataclass
from pathlib import Path

from editsweep.data.dataset import Read
from editsweep.data.own_format import read_edits
from editsweep.data.root import datasets_root


@dataclass(frozen=True)
class Lecture:
    """The loader behind `lecture`; a file in our JSONL format, not divided."""

    splits: tuple[str, ...] = ("all",)
    licence: str = "Apache-2.0"
    source: str = "written for EditSweep"

    def read(self, split: str, path: Path | None, skip_bad: bool) -> Read:
        """All of it.

        Raises:
            DataError: the file is missing or damaged.
        """
        return read_edits(path or datasets_root() / "lecture" / "lecture.jsonl", skip_bad)


LECTURE = Lecture()
