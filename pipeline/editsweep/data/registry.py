"""The datasets, by name; a path to a `.jsonl` file is a name too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editsweep.core.names import unknown
from editsweep.core.registry import Registry
from editsweep.data.dataset import Dataset, Loader, Read, card
from editsweep.data.jsonl import read_jsonl
from editsweep.errors import ConfigError, DataError

DATASETS = Registry(
    kind="dataset",
    group="editsweep.datasets",
    table={
        "world": "editsweep.data.world:WORLD",
        "lecture": "editsweep.data.lecture:LECTURE",
    },
)

WHOLE = "all"
"""The only split of a dataset that is not divided; asking it for `test` gives everything."""


def load(
    name: str,
    split: str = "test",
    limit: int | None = None,
    path: Path | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """The first `limit` requests of a split, or all of them.

    Args:
        name: a name in `DATASETS`, or the path of a file in our JSONL format.
        split: one of `splits(name)`; `test` also stands for the whole of an undivided dataset.
        limit: at most this many requests, from the first.
        path: read these files in place of the ones that are shipped.
        skip_bad: leave bad records out and keep them as faults.

    Raises:
        ConfigError: there is no such dataset or split, or `limit` is below 1.
        DataError: files are missing or damaged, or hold bad records and not `skip_bad`.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit {limit}: write 1 or more, or leave it out for the whole split")
    loader = _loader(name)
    chosen = WHOLE if split == "test" and loader.splits == (WHOLE,) else split
    if chosen not in loader.splits:
        raise unknown(f"split of dataset {name!r}:", split, loader.splits)
    read = loader.read(chosen, path, skip_bad)
    if not read.requests:
        raise DataError(f"dataset {name!r}, split {chosen!r}: no usable record is left")
    return Dataset.of(_short(name), chosen, read.requests[:limit], read.faults)


def splits(name: str) -> tuple[str, ...]:
    """The splits of a dataset.

    Raises:
        ConfigError: there is no such dataset.
    """
    return _loader(name).splits


def parse_source(source: str) -> tuple[str, str]:
    """`world:train` as name and split; without a split it is `test`.

    Raises:
        ConfigError: the name or the split is empty.
    """
    name, colon, split = source.rpartition(":")
    if not colon or "/" in split or "\\" in split or split.endswith(".jsonl"):
        name, split = source, "test"
    if not name or not split:
        raise ConfigError(f"data source {source!r}: write NAME, NAME:SPLIT or the path of a file")
    return name, split


def open_source(source: str, limit: int | None = None) -> Dataset:
    """The data that `source` names, as `parse_source` reads it.

    Raises:
        ConfigError: there is no such dataset or split.
        DataError: the data are missing or bad.
    """
    name, split = parse_source(source)
    return load(name, split, limit)


def show(name: str, path: Path | None = None, skip_bad: bool = True) -> dict[str, Any]:
    """The card of a dataset with all its splits, as plain JSON.

    Raises:
        ConfigError: there is no such dataset.
        DataError: the data are missing or damaged, or have bad records and not `skip_bad`.
    """
    loader = _loader(name)
    parts = []
    for split in loader.splits:
        read = loader.read(split, path, skip_bad)
        parts.append(Dataset.of(_short(name), split, read.requests, read.faults))
    return card(_short(name), loader, parts)


@dataclass(frozen=True)
class _File:
    """A user's file in our JSONL format."""

    file: Path
    splits: tuple[str, ...] = (WHOLE,)
    licence: str = ""
    source: str = "a file of the user's"

    def read(self, split: str, path: Path | None, skip_bad: bool) -> Read:
        """All of it."""
        return read_jsonl(path or self.file, skip_bad)


def _is_file(name: str) -> bool:
    return name not in DATASETS.table and name.endswith(".jsonl")


def _short(name: str) -> str:
    return Path(name).stem if _is_file(name) else name


def _loader(name: str) -> Loader:
    if _is_file(name):
        return _File(Path(name))
    loader: Loader = DATASETS.load(name)
    return loader
