"""Train, validation and test parts that share neither a subject nor, where held out, a relation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from editsweep.core.ids import content_id
from editsweep.core.types import EditRequest

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """The records of each part, in the order of the data; `digest` is the hash of who is where."""

    parts: Mapping[Part, tuple[EditRequest, ...]]
    held_out: Mapping[Part, tuple[str, ...]]
    digest: str


def divide(requests: Sequence[EditRequest], share: float, seed: int) -> Split:
    """About `share` of the records for validation and as many for test, the rest to train on.

    Whole relations are held out first, at most `share` of them for a part, or one, and while they
    hold at most half of its records. A record goes to the part of its relation; every other record of that subject goes with it, and
    the remaining subjects are dealt out by hash. So the validation and test parts hold new
    subjects under known relations as well as relations that were never trained.
    """
    relations = _held_out_relations(requests, share / 2, seed)
    homes: dict[str, Part] = {}
    for part in ("validation", "test"):  # a subject with both goes to test
        for request in requests:
            if request.relation in relations[part]:
                homes[_subject(request)] = part
    missing = {p: share - _fraction(requests, homes, p) for p in ("validation", "test")}
    left = max(
        1e-9, 1 - _fraction(requests, homes, "validation") - _fraction(requests, homes, "test")
    )
    bound = missing["validation"] / left, (missing["validation"] + missing["test"]) / left
    parts: dict[Part, list[EditRequest]] = {part: [] for part in PARTS}
    for request in requests:
        subject = _subject(request)
        home = homes.get(subject) or _dealt(content_id([seed, "subject", subject]), bound)
        parts[home].append(request)
    kept = {part: tuple(found) for part, found in parts.items()}
    digest = content_id({part: [r.edit_id for r in found] for part, found in kept.items()})
    return Split(kept, {"train": (), **relations}, digest)


def _held_out_relations(
    requests: Sequence[EditRequest], share: float, seed: int
) -> dict[Part, tuple[str, ...]]:
    """Relations for validation and test, in the order of their hash, while they fit."""
    sizes = Counter(request.relation for request in requests if request.relation)
    room: dict[Part, float] = {part: share * len(requests) for part in ("validation", "test")}
    held: dict[Part, list[str]] = {"validation": [], "test": []}
    most = max(1, round(2 * share * len(sizes)))
    for relation in sorted(sizes, key=lambda name: content_id([seed, "relation", name])):
        part: Part = max(room, key=lambda name: room[name])
        if sizes[relation] <= room[part] and len(held[part]) < most and len(sizes) > 2:
            held[part].append(relation)
            room[part] -= sizes[relation]
    return {part: tuple(names) for part, names in held.items()}


def _subject(request: EditRequest) -> str:
    return request.subject or request.prompt


def _fraction(requests: Sequence[EditRequest], homes: Mapping[str, Part], part: Part) -> float:
    found = sum(homes.get(_subject(request)) == part for request in requests)
    return found / max(1, len(requests))


def _dealt(key: str, bound: tuple[float, float]) -> Part:
    place = int(key[:8], 16) / 16**8
    return "validation" if place < bound[0] else "test" if place < bound[1] else "train"
