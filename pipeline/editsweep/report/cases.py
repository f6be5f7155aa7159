"""Cases: edits that belong together, and the questions that only all of them answer.

MQuAKE's three scores (arXiv 2305.14795, section 4), each before and after the edits and by protocol:

    edit-wise   share of edits whose own prompt is answered with the new target
    case-wise   share of cases of which all edits are
    multi-hop   share of cases of whose question any wording is answered
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from editsweep.core.types import MULTI_HOP
from editsweep.report.aggregate import CELL, NUMBERS, alike, cells_of, numbers_of
from editsweep.report.coded import values_of

SCORES = ("edit-wise", "case-wise", "multi-hop")
# What says whether an answer is right, under teacher forcing and in the model's own words.
_METRICS = ("exact_match", "contains")
_PHASES = ("pre", "post")
_KEY = ("score", "axis", "metric", "protocol", "phase")


def case_scores(
    plan: Mapping[str, Any], edits: pl.DataFrame, measurements: pl.DataFrame
) -> pl.DataFrame:
    """One row a cell, score, metric, protocol and phase; empty where no edit is of a case.

    Args:
        plan: `plan.json`.
        edits: the `edits` table.
        measurements: the `measurements` table.

    Returns:
        `cell_id label model editor dataset regime seed score axis metric protocol phase mean ci_low
        ci_high interval n asked`. `n` counts edits or cases with a value, `asked` all of them: a
        case with an edit that failed has no case-wise value. Intervals are Wilson's.
    """
    held = edits.filter(pl.col("case").fill_null("") != "").select("cell_id", "edit_id", "case")
    found = measurements.filter(
        pl.col("metric").is_in(_METRICS), pl.col("phase").is_in(_PHASES)
    ).join(alike(held, measurements), on=["cell_id", "edit_id"])
    own = found.filter(pl.col("axis") == "reliability")
    hops = found.filter(pl.col("axis") == "portability", pl.col("facet") == MULTI_HOP)
    value = pl.col("value")
    every = pl.when(value.is_not_null().all()).then(value.min())
    parts = zip(SCORES, (own, _by_case(own, every), _by_case(hops, value.max())), strict=True)
    names = ("cell_id", *_KEY, "value", "cluster")
    rows = pl.concat(
        [
            part.with_columns(score=pl.lit(score), cluster="case").select(names)
            for score, part in parts
        ]
    )
    place = pl.col("score").replace_strict({s: i for i, s in enumerate(SCORES)})
    return (
        cells_of(plan)
        .join(numbers_of(*values_of(rows.sort(names), ("cell_id", *_KEY))), on="cell_id")
        .sort("order", place, "metric", "protocol", pl.col("phase") == "post")
        .select(*CELL, *_KEY, *NUMBERS, "asked")
    )


def _by_case(rows: pl.DataFrame, taken: pl.Expr) -> pl.DataFrame:
    """One row a case in place of its edits' or questions'."""
    key = ("cell_id", "axis", "metric", "protocol", "phase", "case")
    return rows.group_by(key, maintain_order=True).agg(taken.alias("value"))
