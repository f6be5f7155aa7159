"""How a cell is cut into units of work. Pure."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from editsweep.core.conflicts import holding
from editsweep.core.ids import content_id
from editsweep.core.types import EditRequest, Regime


@dataclass(frozen=True)
class Unit:
    """The edits `start` to `stop` of a cell, done together; `needs` are ids of what comes first.

    In a sequence a unit is a checkpoint: `after` is the unit before it, "" for the first, and
    `again` are the places of earlier edits that are asked again.
    """

    unit_id: str
    cell_id: str
    start: int
    stop: int
    needs: tuple[str, ...]
    after: str = ""
    again: tuple[int, ...] = ()


def units_of(
    cell_id: str,
    regime: Regime,
    requests: Sequence[EditRequest],
    unit_size: int,
    assets: Sequence[str],
    base_of: Sequence[str],
) -> Iterator[Unit]:
    """All units of a cell, in order.

    Args:
        cell_id: the cell.
        regime: its regime.
        requests: its edits.
        unit_size: about how many edits a unit has; a sequence has its checkpoints.
        assets: keys of what the editor needs.
        base_of: for each edit, the key of what the unedited model said to it.
    """
    if regime.kind == "sequential":
        yield from _checkpoints(cell_id, regime, requests, assets, base_of)
        return
    step = regime.size * max(1, unit_size // regime.size)
    for start, stop in _spans(len(requests), step):
        needs = (*assets, *dict.fromkeys(base_of[start:stop]))
        yield Unit(content_id([cell_id, start, stop]), cell_id, start, stop, needs)


def sampled(requests: Sequence[EditRequest], count: int) -> list[int]:
    """Places of `count` edits, drawn by the hash of their id: the same in every cell."""
    drawn = ((content_id(["retention", r.edit_id]), place) for place, r in enumerate(requests))
    return sorted(place for _, place in heapq.nsmallest(count, drawn))


def _checkpoints(
    cell_id: str,
    regime: Regime,
    requests: Sequence[EditRequest],
    assets: Sequence[str],
    base_of: Sequence[str],
) -> Iterator[Unit]:
    spans = list(_spans(len(requests), regime.every))
    chosen = sampled(requests, regime.sample)
    held = holding(requests, chosen, [stop for _, stop in spans])
    before = ""
    for (start, stop), places in zip(spans, held, strict=True):
        again = tuple(place for place in places if place < start)
        asked = dict.fromkeys([base_of[place] for place in (*again, *range(start, stop))])
        needs = (*assets, *asked, *([before] if before else []))
        unit_id = content_id([cell_id, start, stop])
        yield Unit(unit_id, cell_id, start, stop, needs, before, again)
        before = unit_id


def _spans(total: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + step, total)) for start in range(0, total, step))
