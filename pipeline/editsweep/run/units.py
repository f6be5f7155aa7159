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

    `group` is the index of its first edit job in the cell.
    In a sequence a unit is a checkpoint: `after` is the unit before it, "" for the first, and
    `again` are the places of earlier edits that are asked again.
    """

    unit_id: str
    cell_id: str
    start: int
    stop: int
    needs: tuple[str, ...]
    group: int = 0
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
    start = group = 0
    for sizes in _filled([len(g) for g in regime.groups(requests)], regime.size, unit_size):
        stop = start + sum(sizes)
        needs = (*assets, *dict.fromkeys(base_of[start:stop]))
        yield Unit(content_id([cell_id, start, stop]), cell_id, start, stop, needs, group)
        start, group = stop, group + len(sizes)


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
        yield Unit(unit_id, cell_id, start, stop, needs, start // regime.size, before, again)
        before = unit_id


def _filled(sizes: Sequence[int], usual: int, room: int) -> Iterator[list[int]]:
    """Whole groups, as many as there is room for but never none; a smaller one counts as `usual`."""
    held: list[int] = []
    for size in sizes:
        if held and sum(held) + max(size, usual) > room:
            yield held
            held = []
        held.append(size)
    if held:
        yield held


def _spans(total: int, step: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + step, total)) for start in range(0, total, step))
