"""Which edits of which groups can be made, and the results back in the order of the groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from editsweep.core.types import EditRequest
from editsweep.editors.base import Edited
from editsweep.errors import EditError

T = TypeVar("T")
Ready = tuple[EditRequest, T]
"""A request that can be edited, and what was made of it."""

Prepare = Callable[[Sequence[EditRequest]], Sequence[T | EditError]]
"""Requests to what is made of each, or why it cannot be edited."""


def each(make: Callable[[EditRequest], T]) -> Prepare[T]:
    """`make` of one request after another; an `EditError` that it raises is that request's own."""

    def tried(request: EditRequest) -> T | EditError:
        try:
            return make(request)
        except EditError as error:
            return error

    return lambda requests: [tried(request) for request in requests]


def divided(found: Sequence[T | EditError]) -> tuple[dict[int, T], dict[int, EditError]]:
    """What was made and what was not, each by its place."""
    made: dict[int, T] = {}
    errors: dict[int, EditError] = {}
    for place, one in enumerate(found):
        if isinstance(one, EditError):
            errors[place] = one
        else:
            made[place] = one
    return made, errors


def without(edited: Edited | None, errors: Mapping[int, EditError]) -> Edited:
    """What came of a group of which `errors` are left out; an error where nothing is left (None)."""
    if edited is None:
        return Edited(error=next(iter(errors.values())), left_out=errors)
    return replace(edited, left_out=errors)


def edit_groups(
    groups: Sequence[Sequence[EditRequest]],
    prepare: Prepare[T],
    edit: Callable[[Sequence[Sequence[Ready[T]]]], Sequence[Edited]],
) -> list[Edited]:
    """Edit each group as if the requests that cannot be edited were not in it.

    Args:
        groups: the independent edit jobs.
        prepare: called once, with the requests of all groups.
        edit: one result a group; called with the groups of which anything is left, if there are any.

    Returns:
        One result a group, which says what is left out of it; an error where that is all.
    """
    found = iter(prepare([request for group in groups for request in group]))
    parts = [divided([next(found) for _ in group]) for group in groups]
    ready = [
        [(group[place], one) for place, one in made.items()]
        for group, (made, _) in zip(groups, parts, strict=True)
        if made
    ]
    results = iter(edit(ready) if ready else ())
    return [without(next(results) if made else None, errors) for made, errors in parts]
