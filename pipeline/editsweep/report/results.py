"""What is committed of a sweep, and the tables that are made of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import pyarrow as pa

from editsweep.report.cases import case_scores
from editsweep.report.chains import curves
from editsweep.report.conditions import Boards, conditioned
from editsweep.report.failures import Answers

MEASURED = (
    *("cell_id", "unit_id", "edit_id", "probe_id", "axis", "facet"),
    *("metric", "protocol", "phase", "value"),
)
"""The columns of `measurements` that reports are made of."""


@dataclass(frozen=True)
class Results:
    """What is committed of a sweep; what is made of it is made once.

    Attributes:
        plan: `plan.json`.
        edits: the `edits` table.
        measurements: the `measurements` table, or its columns of `MEASURED`; texts may be categorical.
        answers: gives the `answers` table of units by id.
    """

    plan: Mapping[str, Any]
    edits: pl.DataFrame
    measurements: pl.DataFrame
    answers: Answers

    @classmethod
    def of(
        cls, plan: Mapping[str, Any], tables: Mapping[str, pa.Table], answers: Answers | None = None
    ) -> "Results":
        """From Arrow tables by kind; without `answers` they are among the tables."""
        edits, measurements = pl.DataFrame(tables["edits"]), pl.DataFrame(tables["measurements"])
        return cls(plan, edits, measurements, answers or among(pl.DataFrame(tables["answers"])))

    @cached_property
    def boards(self) -> Mapping[str, Boards]:
        """The leaderboards by condition; that of all edits is called ""."""
        return conditioned(self.plan, self.edits, self.measurements)

    @cached_property
    def along(self) -> pl.DataFrame:
        """Sequences checkpoint by checkpoint."""
        return curves(self.plan, self.edits, self.measurements)

    @cached_property
    def cases(self) -> pl.DataFrame:
        """The scores of cases; empty where no edit is of a case."""
        return case_scores(self.plan, self.edits, self.measurements)


def among(answers: pl.DataFrame) -> Answers:
    """The answers of units from one table of all."""
    return lambda units: answers.filter(pl.col("unit_id").is_in(units))
