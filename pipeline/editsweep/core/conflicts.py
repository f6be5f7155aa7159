"""Edits that say different things of one fact, and which of them holds: the last."""

from collections.abc import Iterable, Iterator, Sequence

from editsweep.core.types import EditRequest

Fact = tuple[str, str | None, str]


def facts(request: EditRequest) -> list[Fact]:
    """What the edit is about: its subject, whatever its case, under its prompt and its relation."""
    subject = None if request.subject is None else request.subject.casefold()
    found: list[Fact] = [("prompt", subject, request.prompt)]
    if subject is not None and request.relation:
        found.append(("relation", subject, request.relation))
    return found


def superseded(requests: Sequence[EditRequest]) -> dict[int, int]:
    """Places of edits that do not hold, and for each the place of the one that does.

    Of several edits of one fact (same subject, and same prompt or relation) the last one holds.
    An earlier one that has the same target holds too.
    """
    last = {fact: place for place, request in enumerate(requests) for fact in facts(request)}
    found = {}
    for place, request in enumerate(requests):
        latest = max(last[fact] for fact in facts(request))
        if requests[latest].target_new != request.target_new:
            found[place] = latest
    return found


def holding(
    requests: Sequence[EditRequest], chosen: Iterable[int], stops: Iterable[int]
) -> Iterator[tuple[int, ...]]:
    """For each of the ascending `stops`, which of `chosen` hold after the edits before it."""
    wanted, last, done = sorted(chosen), dict[Fact, int](), 0
    for stop in stops:
        for place in range(done, stop):
            last.update(dict.fromkeys(facts(requests[place]), place))
        done = stop
        yield tuple(
            place
            for place in wanted
            if place < stop
            and requests[max(last[fact] for fact in facts(requests[place]))].target_new
            == requests[place].target_new
        )
