"""Sequences checkpoint by checkpoint: the same numbers as the leaderboard's, after so many edits."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from editsweep.report.aggregate import CELL, KEY, NUMBERS, cells_of, numbers_of, stations
from editsweep.report.coded import Rows, per_edit


def has_chains(plan: Mapping[str, Any]) -> bool:
    """Whether any cell of the plan is a sequence."""
    return any(_is_chain(cell) for cell in plan["cells"])


def curves(
    plan: Mapping[str, Any], edits: pl.DataFrame, measurements: pl.DataFrame
) -> pl.DataFrame:
    """One row a sequence, checkpoint, axis, metric, protocol and phase.

    Args:
        plan: `plan.json`.
        edits: the `edits` table.
        measurements: the `measurements` table.

    Returns:
        `cell_id label model editor dataset regime seed unit_id edits axis metric protocol phase
        mean ci_low ci_high interval n`. `edits` is how many edits were tried so far. Phase `post`
        is of the checkpoint's new edits, `retained` of earlier ones; axis `drift` is of the whole
        model. Empty without sequences.
    """
    chains = [str(cell["cell_id"]) for cell in plan["cells"] if _is_chain(cell)]
    own = measurements.filter(pl.col("cell_id").is_in(chains))
    key = ("unit_id", *KEY)
    rows = Rows.of(own, edits)
    values = per_edit(rows, key)
    numbers = numbers_of(values, values.clusters(rows))
    ends = stations(edits).with_columns(pl.col("cell_id", "unit_id").cast(pl.String))
    return (
        cells_of(plan)
        .drop("edits")
        .join(ends.rename({"so_far": "edits"}), on="cell_id")
        .join(numbers, on=["cell_id", "unit_id"])
        .sort("order", "edits", *KEY)
        .select(*CELL, "unit_id", "edits", *KEY, *NUMBERS)
    )


def _is_chain(cell: Mapping[str, Any]) -> bool:
    return str(cell.get("regime")).startswith("sequential")
