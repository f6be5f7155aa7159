"""Every table thrice: of all edits, of those whose old fact the model knew, and of the others.

The unedited model knows a fact when it says the old target by itself. Where no edit has an old
target, there is nothing to know, and only the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from editsweep.report.aggregate import Basis

CONDITIONS: Mapping[str, bool | None] = {"": None, "known": True, "unknown": False}


@dataclass(frozen=True)
class Boards:
    """The tables of some edits: the leaderboard, and the same by facet."""

    board: pl.DataFrame
    facets: pl.DataFrame


def conditioned(
    plan: Mapping[str, Any], edits: pl.DataFrame, measurements: pl.DataFrame
) -> dict[str, Boards]:
    """The tables by condition; that of all edits is called "" and comes first."""
    basis = Basis.of(edits, measurements)
    return {
        name: Boards(basis.board(plan, known), basis.board(plan, known, by_facet=True))
        for name, known in CONDITIONS.items()
        if known is None or can_condition(edits)
    }


def can_condition(edits: pl.DataFrame) -> bool:
    """Whether any edit has an old target, which the unedited model knew or did not."""
    return edits["known"].null_count() < edits.height
