"""The datasets, by name; a path to a `.jsonl` or `.arrow` file is a name too, and so is NAME@PATH.

`zsre@zsre_mend_eval.json` is the dataset `zsre` read from that file of the user's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from editsweep.core.names import unknown
from editsweep.core.registry import Registry
from editsweep.core.types import whole_cases
from editsweep.data.dataset import Dataset, Fault, Loader, Read, card
from editsweep.data.manifest import fetched, manifest_of
from editsweep.data.own_format import read_edits
from editsweep.data.published import Published
from editsweep.errors import ConfigError, DataError

DATASETS = Registry(
    kind="dataset",
    group="editsweep.datasets",
    table={
        "world": "editsweep.data.world:WORLD",
        "lecture": "editsweep.data.lecture:LECTURE",
        "counterfact": "editsweep.data.counterfact:COUNTERFACT",
        "counterfact-flat": "editsweep.data.counterfact:COUNTERFACT_FLAT",
        "zsre": "editsweep.data.zsre:ZSRE",
        "zsre-answers": "editsweep.data.zsre:ZSRE_ANSWERS",
        "wikidata-recent": "editsweep.data.knowedit:WIKIDATA_RECENT",
        "wikidata-counterfact": "editsweep.data.knowedit:WIKIDATA_COUNTERFACT",
        "knowedit-zsre": "editsweep.data.knowedit:ZSRE",
        "wikibio": "editsweep.data.knowedit:WIKIBIO",
        "convsent": "editsweep.data.knowedit:CONVSENT",
        "sanitation": "editsweep.data.knowedit:SANITATION",
        "known-1000": "editsweep.data.known:KNOWN_1000",
        "cknowedit": "editsweep.data.multilingual:CKNOWEDIT",
        "mquake": "editsweep.data.mquake:MQUAKE",
        "rippleedits": "editsweep.data.ripple:RIPPLEEDITS",
        "bmike-53": "editsweep.data.multilingual:BMIKE_53",
        "qaedit": "editsweep.data.answering:QAEDIT",
        "unke": "editsweep.data.answering:UNKE",
        "wikibigedit": "editsweep.data.answering:WIKIBIGEDIT",
    },
)

OWN = (".jsonl", ".arrow")
"""How the files of our own format end; the path of one is a dataset's name."""

WHOLE = "all"
"""The only split of a dataset that is not divided; asking it for `test` gives everything."""


def load(
    name: str,
    split: str = "test",
    limit: int | None = None,
    path: Path | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """The first requests of a split, or all of them.

    Args:
        name: a name in `DATASETS`, one with a path as NAME@PATH, or the path of a file in our
            JSONL format.
        split: one of `splits(name)`; `test` also stands for the whole of an undivided dataset.
        limit: so many requests, from the first, and what is left of the last one's case.
        path: read these files in place of the ones that are shipped, if any are.
        skip_bad: leave bad records out and keep them as faults.

    Raises:
        ConfigError: there is no such dataset or split, or `limit` is below 1.
        DataError: files are missing or damaged, or hold bad records and not `skip_bad`.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit {limit}: write 1 or more, or leave it out for the whole split")
    name, path = locate(name, path)
    loader = _loader(name)
    chosen = WHOLE if split == "test" and loader.splits == (WHOLE,) else split
    if chosen not in loader.splits:
        raise unknown(f"split of dataset {name!r}:", split, loader.splits)
    read = _read(name, loader, chosen, path, skip_bad)
    if not read.requests:
        raise DataError(f"dataset {name!r}, split {chosen!r}: no usable record is left")
    taken = read.requests if limit is None else whole_cases(read.requests, limit)
    # A note belongs to a request, and tells nothing about a run that does without that one.
    faults = [f for f in read.faults if f.position is None or f.position < len(taken)]
    return Dataset.of(_short(name), chosen, taken, faults)


def splits(name: str) -> tuple[str, ...]:
    """The splits of a dataset.

    Raises:
        ConfigError: there is no such dataset.
    """
    return _loader(locate(name)[0]).splits


def needs_file(name: str) -> bool:
    """Whether a dataset is read only from a file that the user names.

    Raises:
        ConfigError: there is no such dataset.
    """
    return isinstance(_loader(name), Published)


class Located(NamedTuple):
    """A dataset's name, and the files it is read from if they are not the shipped ones."""

    name: str
    path: Path | None


def locate(name: str, path: Path | None = None) -> Located:
    """`zsre@FILE` as `zsre` and `FILE`; `path` is where it was said already.

    Raises:
        ConfigError: the path is empty, is said twice, or belongs to no dataset that there is.
    """
    short, at, file = name.partition("@")
    if at and short not in DATASETS.names():
        # A file may have @ in its name, or lie in a folder that has.
        if not Path(name).exists() and not {"/", "\\"} & set(short):
            raise unknown("dataset", short, DATASETS.names())
        at = ""
    if not at:
        return Located(name, path)
    if not file:
        raise ConfigError(f"dataset {name!r}: write the path of a file after @")
    if path is not None:
        raise ConfigError(f"dataset {name!r}: a second path, {str(path)!r}; write only one")
    return Located(short, Path(file))


class SourceName(NamedTuple):
    """What a text says about where data come from."""

    name: str
    split: str
    path: Path | None = None


def parse_source(source: str) -> SourceName:
    """NAME, NAME:SPLIT, NAME@PATH, NAME:SPLIT@PATH or the path of a file; no split means `test`.

    Raises:
        ConfigError: the name, the split or the path is empty, or the path belongs to no dataset.
    """
    # The split stands before the path, which may have colons of its own.
    front, at, file = source.partition("@")
    name, colon, split = front.rpartition(":")
    if at and (name or split) in DATASETS.names():
        found = locate(f"{name or split}@{file}")
        return SourceName(found.name, split if colon else "test", found.path)
    name, colon, split = source.rpartition(":")
    if not colon or "/" in split or "\\" in split or split.endswith(OWN):
        name, split = source, "test"
    if not name or not split:
        raise ConfigError(
            f"data source {source!r}: write NAME, NAME:SPLIT, NAME:SPLIT@PATH or the path of a file"
        )
    found = locate(name)
    return SourceName(found.name, split, found.path)


def open_source(source: str, limit: int | None = None, skip_bad: bool = False) -> Dataset:
    """The data that `source` names, as `parse_source` reads it.

    Raises:
        ConfigError: there is no such dataset or split.
        DataError: the data are missing or bad.
    """
    name, split, path = parse_source(source)
    return load(name, split, limit, path, skip_bad)


def show(name: str, path: Path | None = None, skip_bad: bool = True) -> dict[str, Any]:
    """The card of a dataset with all its splits, as plain JSON.

    Of a published one without a file that is only what is known of it; `records` is null then.

    Raises:
        ConfigError: there is no such dataset.
        DataError: the data are missing or damaged, or have bad records and not `skip_bad`.
    """
    name, path = locate(name, path)
    loader = _loader(name)
    parts = []
    bare = path is None and isinstance(loader, Published) and fetched(name) is None
    for split in () if bare else loader.splits:
        read = _read(name, loader, split, path, skip_bad)
        parts.append(Dataset.of(_short(name), split, read.requests, read.faults))
    known = {"manifest": None if _is_file(name) else manifest_of(name).plain}
    unread: dict[str, Any] = {"records": None} if bare else {}
    return card(_short(name), loader, parts) | known | unread


def faults(name: str, path: Path | None = None) -> tuple[Fault, ...]:
    """Every fault of every split, even where no record is left.

    Raises:
        ConfigError: there is no such dataset.
        DataError: the data are missing or damaged.
    """
    name, path = locate(name, path)
    loader = _loader(name)
    reads = [_read(name, loader, split, path, skip_bad=True) for split in loader.splits]
    return tuple(fault for read in reads for fault in read.faults)


@dataclass(frozen=True)
class _File:
    """A user's file in our own format."""

    file: Path
    splits: tuple[str, ...] = (WHOLE,)
    licence: str = ""
    source: str = "a file of the user's"

    def read(self, split: str, path: Path | None, skip_bad: bool) -> Read:
        """All of it."""
        return read_edits(path or self.file, skip_bad)


def _read(name: str, loader: Loader, split: str, path: Path | None, skip_bad: bool) -> Read:
    if path is None and isinstance(loader, Published):
        path = fetched(name)
        if path is None:
            raise ConfigError(
                f"dataset {name!r} is not shipped; name your file of it: `{name}@FILE`, in a sweep "
                "also `path: FILE`, on the command line also --path FILE (it is published as "
                f"{loader.source}), or `editsweep datasets fetch {name}` if it is on the hub"
            )
    return loader.read(split, path, skip_bad)


def _is_file(name: str) -> bool:
    return name not in DATASETS.table and name.endswith(OWN)


def _short(name: str) -> str:
    return Path(name).stem if _is_file(name) else name


def _loader(name: str) -> Loader:
    if _is_file(name):
        return _File(Path(name))
    loader: Loader = DATASETS.load(name)
    return loader
