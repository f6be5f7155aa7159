"""What is known of a dataset's published files: `datasets/<name>/manifest.json`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from editsweep.data.root import datasets_root
from editsweep.errors import DataError
from editsweep.model.cache import cache_root


@dataclass(frozen=True)
class PublishedFile:
    """One file where its authors, or somebody who carries it, publish it.

    `revision` is a commit and `sha256` the hash of the file's bytes, each None where it is not
    known; `sha256_from` says how it is known, or why not. `records` counts what it holds.
    """

    host: Literal["hub", "github", "web"]
    path: str
    repository: str = ""
    revision: str | None = None
    records: int | None = None
    sha256: str | None = None
    sha256_from: str = ""

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.path.rpartition("/")[2]

    @property
    def url(self) -> str:
        """An address from which a browser gets it."""
        path = self.path.replace(" ", "%20")
        at = self.revision or "main"
        return {
            "hub": f"https://huggingface.co/datasets/{self.repository}/resolve/{at}/{path}",
            "github": f"https://raw.githubusercontent.com/{self.repository}/{at}/{path}",
            "web": path,
        }[self.host]


@dataclass(frozen=True)
class Manifest:
    """`folder` is where the card lies; `counted` are the faults of files that were looked through."""

    folder: str = ""
    licence: str = ""
    citation: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    published: tuple[PublishedFile, ...] = ()
    counted: tuple[dict[str, Any], ...] = ()

    @property
    def plain(self) -> dict[str, Any]:
        """As plain JSON, with an address for each file."""
        told = asdict(self)
        lists = {name: list(value) for name, value in told.items() if isinstance(value, tuple)}
        files = [{**asdict(file), "url": file.url} for file in self.published]
        return {**told, **lists, "published": files}


def manifest_of(name: str) -> Manifest:
    """The manifest of a dataset; an empty one where there is none.

    Raises:
        DataError: it is damaged.
    """
    path = datasets_root() / name / "manifest.json"
    if "/" in name or not path.is_file():
        return Manifest()
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if "same_as" in told:
            return manifest_of(told["same_as"])
        return Manifest(
            folder=name,
            licence=told.get("licence", ""),
            citation=tuple(told.get("citation", ())),
            axes=tuple(told.get("axes", ())),
            published=tuple(PublishedFile(**file) for file in told.get("published", ())),
            counted=tuple(told.get("counted", ())),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); install the package again") from error


def fetched(name: str) -> Path | None:
    """The first of a dataset's published files that was fetched, if any was."""
    manifest = manifest_of(name)
    places = [place_of(manifest, file) for file in manifest.published]
    return next((place for place in places if place.is_file()), None)


def place_of(manifest: Manifest, file: PublishedFile) -> Path:
    """Where a fetched file lies."""
    return cache_root() / "datasets" / manifest.folder / file.name
