"""A dataset: edit requests in a fixed order, and what was wrong with the records."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from editsweep.core.ids import content_id
from editsweep.core.types import EditRequest


@dataclass(frozen=True)
class Fault:
    """What is wrong with one record.

    `line` counts from 1, `field` is a path such as `probes[2].answers`, `kind` a short stable word
    and `message` a sentence for a person. `position` is the place in the split of the request that
    is kept in spite of it; None when the record is left out.
    """

    file: str
    line: int
    field: str
    kind: str
    message: str
    position: int | None = None

    def __str__(self) -> str:
        """File, line, field and what to do."""
        place = f"{self.file}:{self.line}"
        return (
            f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"
        )


@dataclass(frozen=True)
class Dataset:
    """The requests of one split; `digest` is the content id of their edit ids in order."""

    name: str
    split: str
    requests: tuple[EditRequest, ...]
    faults: tuple[Fault, ...]
    digest: str

    @classmethod
    def of(
        cls,
        name: str,
        split: str,
        requests: Iterable[EditRequest],
        faults: Iterable[Fault] = (),
    ) -> "Dataset":
        """A dataset with the digest of its requests."""
        kept = tuple(requests)
        digest = content_id([request.edit_id for request in kept])
        return cls(name, split, kept, tuple(faults), digest)

    @property
    def left_out(self) -> tuple[Fault, ...]:
        """The faults of records that are not among the requests."""
        return tuple(fault for fault in self.faults if fault.position is None)

    @property
    def notes(self) -> tuple[Fault, ...]:
        """The faults of records that are."""
        return tuple(fault for fault in self.faults if fault.position is not None)


@dataclass(frozen=True)
class Read:
    """What a loader got out of a split."""

    requests: tuple[EditRequest, ...]
    faults: tuple[Fault, ...] = ()


class Loader(Protocol):
    """What stands behind a name in `DATASETS`.

    `splits` are its parts that share no record; `licence` and `source` are for the card.
    """

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""

    @property
    def licence(self) -> str:
        """The licence of the data, or an empty string if it is not known."""

    @property
    def source(self) -> str:
        """Where the data come from, in a few words."""

    def read(self, split: str, path: Path | None, skip_bad: bool) -> Read:
        """The whole of one split, from `path` in place of the usual files if given.

        Raises:
            DataError: the files are missing, damaged, or hold bad records and not `skip_bad`.
        """


def card(name: str, loader: Loader, parts: Sequence[Dataset]) -> dict[str, Any]:
    """What a dataset holds, as plain JSON; `parts` are its splits."""
    requests = [request for part in parts for request in part.requests]
    probes: dict[str, Counter[str]] = {}
    for request in requests:
        for probe in request.all_probes:
            probes.setdefault(probe.axis, Counter())[probe.facet] += 1
    faults = Counter(fault.kind for part in parts for fault in part.faults)
    left_out = Counter(fault.kind for part in parts for fault in part.left_out)
    return {
        "name": name,
        "splits": {part.split: len(part.requests) for part in parts},
        "digests": {part.split: part.digest for part in parts},
        "records": len(requests),
        "cases": len({request.case for request in requests if request.case}),
        "relations": dict(sorted(Counter(request.relation for request in requests).items())),
        "probes": {axis: dict(sorted(facets.items())) for axis, facets in sorted(probes.items())},
        "faults": dict(sorted(faults.items())),
        "left_out": dict(sorted(left_out.items())),
        "licence": loader.licence,
        "source": loader.source,
    }
