"""Leaderboards: the mean of each edit first, then over edits, with an interval and what is missing."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from editsweep.core.types import AXES
from editsweep.report import harmonic
from editsweep.report.coded import Ints, PerEdit, Rows, per_edit
from editsweep.report.columns import NO_RATES
from editsweep.report.statistics import Sample, intervals, wilson

DRIFT = "drift"

CELL = ("cell_id", "label", "model", "editor", "dataset", "regime", "seed")
KEY = ("axis", "metric", "protocol", "phase")
FACET_KEY = ("axis", "facet", "metric", "protocol", "phase")
NUMBERS: Mapping[str, type[pl.DataType]] = {
    "mean": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "interval": pl.String,
    "n": pl.Int64,
}
_INTERVAL = ("ci_low", "ci_high", "interval")
_PHASES = {"pre": 0, "post": 1, "retained": 2}
AXIS_ORDER = pl.col("axis").replace_strict(
    {axis: i for i, axis in enumerate(AXES)}, default=len(AXES), return_dtype=pl.Int32
)


def leaderboard(
    plan: Mapping[str, Any],
    edits: pl.DataFrame,
    measurements: pl.DataFrame,
    known: bool | None = None,
) -> pl.DataFrame:
    """One row a cell, axis, metric, protocol and phase.

    Args:
        plan: `plan.json`; its cells give the rows their names and their order.
        edits: the `edits` table.
        measurements: the `measurements` table.
        known: only edits whose old fact the unedited model knew (True) or did not (False).

    Returns:
        `cell_id label model editor dataset regime seed axis metric protocol phase mean ci_low
        ci_high interval n asked failed missing`. The axis `overall` has ROME's score S, where
        its three parts were asked. Of a sequence, the phase `retained` and the axis
        `drift` are those of its last checkpoint. `n` counts edits with a value, `asked` edits that
        have such a probe, `failed` edits that the editor could not do, `missing` planned edits that
        are not recorded yet (null when `known` is given: who knows). A cell without any record
        still has its rows, with null values.
    """
    return Basis.of(edits, measurements).board(plan, known)


def by_facet(
    plan: Mapping[str, Any],
    edits: pl.DataFrame,
    measurements: pl.DataFrame,
    known: bool | None = None,
) -> pl.DataFrame:
    """`leaderboard` with a further column `facet` after `axis`, and without the axis `overall`."""
    return Basis.of(edits, measurements).board(plan, known, by_facet=True)


def timings(plan: Mapping[str, Any], edits: pl.DataFrame) -> pl.DataFrame:
    """Measured seconds an edit by cell: `edit_s`, `probe_s` and their sum `total_s`, means."""
    measured = _ordered(edits, ("cell_id", "position", "edit_id")).with_columns(
        total_s=pl.col("edit_s") + pl.col("probe_s")
    )
    means = (
        measured.group_by("cell_id", maintain_order=True)
        .agg(pl.col("edit_s", "probe_s", "total_s").mean(), edits=pl.len().cast(pl.Int64))
        .with_columns(pl.col("cell_id").cast(pl.String))
    )
    return (
        cells_of(plan)
        .select("order", *CELL)
        .join(means, on="cell_id", how="left", maintain_order="left")
        .with_columns(pl.col("edits").fill_null(0))
        .drop("order")
    )


@dataclass(frozen=True)
class Basis:
    """What all leaderboards of some edits are made of: the values by edit, sorted once.

    Attributes:
        rows: the measurements, of sequences those at their end.
        edits: the `edits` table.
        values: by cell, axis, metric, protocol, phase and edit.
        faceted: the same with the facet after the axis.
        parts: what the score S is made of, by cell, axis, phase and edit.
    """

    rows: Rows
    edits: pl.DataFrame
    values: PerEdit
    faceted: PerEdit
    parts: PerEdit

    @classmethod
    def of(cls, edits: pl.DataFrame, measurements: pl.DataFrame) -> "Basis":
        """The basis of two tables; their columns of text may be categorical, alike in both."""
        rows = Rows.of(_at_the_end(measurements, edits), edits)
        # numpy sorts on one core, and there are mostly two.
        with ThreadPoolExecutor(2) as pool:
            made = [pool.submit(per_edit, rows, key) for key in (KEY, FACET_KEY)]
            parts = per_edit(rows.where(harmonic.parts(rows)), ("axis", "phase"))
            values, faceted = (future.result() for future in made)
        return cls(rows, edits, values, faceted, parts)

    def board(
        self, plan: Mapping[str, Any], known: bool | None = None, by_facet: bool = False
    ) -> pl.DataFrame:
        """`leaderboard` or `by_facet` of these edits."""
        edits, values, parts = self.edits, self.faceted if by_facet else self.values, self.parts
        if known is not None:
            edits = edits.filter(pl.col("known") == known)
            wanted = (self.rows.edits["known"] == known).fill_null(value=False).to_numpy()
            values, parts = values.of_edits(wanted), parts.of_edits(wanted)
        numbers = numbers_of(values, values.clusters(self.rows))
        if not by_facet:
            overall = list(harmonic.scores(parts, parts.clusters(self.rows)))
            numbers = pl.concat([numbers, pl.DataFrame(overall, schema=numbers.schema)])
        return _laid_out(plan, edits, numbers, FACET_KEY if by_facet else KEY, known is None)


def _laid_out(
    plan: Mapping[str, Any],
    edits: pl.DataFrame,
    numbers: pl.DataFrame,
    key: Sequence[str],
    is_whole: bool,
) -> pl.DataFrame:
    """The numbers in the plan's order, with a row for everything that was to be had."""
    cells = cells_of(plan).join(_recorded(edits), on="cell_id", how="left", maintain_order="left")
    rows = _expected(cells, numbers, key).join(
        numbers, on=["cell_id", *key], how="left", maintain_order="left"
    )
    missing = pl.col("edits") - pl.col("recorded") if is_whole else pl.lit(None, pl.Int64)
    return (
        rows.with_columns(pl.col("n", "asked", "failed", "recorded").fill_null(0))
        .with_columns(missing=missing)
        .sort("order", AXIS_ORDER, *key[:-1], pl.col("phase").replace_strict(_PHASES))
        .select(*CELL, *key, *NUMBERS, "asked", "failed", "missing")
    )


def late() -> pl.Expr:
    """Whether a number says where a sequence stands, and not what came of one edit."""
    return (pl.col("phase") == "retained") | (pl.col("axis") == DRIFT)


def stations(edits: pl.DataFrame) -> pl.DataFrame:
    """How many edits of its cell were tried after each unit: `cell_id unit_id so_far`."""
    return (
        edits.group_by("cell_id", "unit_id")
        .agg(so_far=pl.col("position").max() + 1)
        .sort("cell_id", "so_far")
    )


def alike(frame: pl.DataFrame, measurements: pl.DataFrame) -> pl.DataFrame:
    """`frame` with ids as the measurements have them, text or categorical, so that they join."""
    ids = [name for name in ("cell_id", "unit_id", "edit_id") if name in frame.columns]
    return frame.with_columns(pl.col(name).cast(measurements.schema[name]) for name in ids)


def _at_the_end(measurements: pl.DataFrame, edits: pl.DataFrame) -> pl.DataFrame:
    """Without what sequences were like before their last checkpoint."""
    found = measurements.filter(late())
    if found.is_empty():
        return measurements
    at = alike(stations(edits), found).join(found, on=["cell_id", "unit_id"], how="semi")
    last = at.filter(pl.col("so_far") == pl.col("so_far").max().over("cell_id"))
    ends = found.join(last, on=["cell_id", "unit_id"], how="semi")
    return pl.concat([measurements.filter(~late()), ends])


def cells_of(plan: Mapping[str, Any]) -> pl.DataFrame:
    """The planned cells in their order; a field that a plan lacks is null."""
    names = (*CELL, "split", "edits")
    rows = [{name: cell.get(name) for name in names} for cell in plan["cells"]]
    types = {name: pl.Int64 if name in ("seed", "edits") else pl.String for name in names}
    return pl.DataFrame(rows, schema=types).with_row_index("order")


def _recorded(edits: pl.DataFrame) -> pl.DataFrame:
    """How many edits of each cell are recorded, and how many of them failed."""
    return (
        edits.group_by("cell_id")
        .agg(
            recorded=pl.len().cast(pl.Int64),
            failed=(pl.col("status") == "failed").sum().cast(pl.Int64),
        )
        .with_columns(pl.col("cell_id").cast(pl.String))
    )


def numbers_of(values: PerEdit, clusters: Ints) -> pl.DataFrame:
    """One row a cell and key: mean, interval, n and asked; `clusters` are the values' subjects."""
    names = values.names
    starts = values.starts[:-1]
    asked = np.diff(values.starts)
    there = np.isfinite(values.value)
    is_rate = there & ((values.value == 0.0) | (values.value == 1.0)) | ~there
    zeroed = np.where(there, values.value, 0.0)
    if len(starts):
        n, sums = (np.add.reduceat(some, starts) for some in (there.astype(np.int64), zeroed))
        rates = np.logical_and.reduceat(is_rate, starts)
    else:
        n, sums, rates = (np.zeros(0, kind) for kind in (np.int64, np.float64, np.bool_))
    means = np.divide(sums, n, out=np.full_like(sums, np.nan), where=n > 0)
    lows, highs = wilson(np.where(rates, sums, 0.0), np.maximum(n, 1))
    metric = names.index("metric")
    rates &= np.array([key[metric] not in NO_RATES for key in values.keys], np.bool_)
    spread = np.flatnonzero((n > 0) & ~rates).tolist()
    samples = [_sample(values, clusters, run) for run in spread]
    found = dict(zip(spread, intervals(samples), strict=True))
    made = []
    for run, key in enumerate(values.keys):
        number: tuple[Any, ...] = (None, None, None, None)
        if run in found:
            number = (means[run], *found[run])
        elif n[run]:
            number = (means[run], lows[run], highs[run], "wilson")
        made.append((*key, *number, n[run], asked[run]))
    types = dict.fromkeys(names, pl.String) | dict(NUMBERS) | {"asked": pl.Int64}
    board = pl.DataFrame(made, schema=types, orient="row")
    # Drift is one measurement of one model, not a sample of edits.
    bare = pl.when(pl.col("axis") != DRIFT)
    return board.with_columns(bare.then(name).alias(name) for name in _INTERVAL)


def _sample(values: PerEdit, clusters: Ints, run: int) -> Sample:
    part = slice(values.starts[run], values.starts[run + 1])
    there = np.isfinite(values.value[part])
    return Sample.of(values.value[part][there], clusters[part][there])


def _expected(cells: pl.DataFrame, numbers: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Every cell with every key that any cell of its dataset has: nothing drops out unseen.

    What only sequences have, a cell of another regime is not expected to have.
    """
    seen = numbers.join(cells, on="cell_id")
    data, own = ("dataset", "split"), ("dataset", "split", "regime")
    usual = seen.filter(~late()).select(*data, *key).unique()
    of_regime = seen.filter(late()).select(*own, *key).unique()
    names = (*cells.columns, *key)
    parts = [
        cells.join(usual, on=data, nulls_equal=True),
        cells.join(of_regime, on=own, nulls_equal=True),
    ]
    return pl.concat([part.select(names) for part in parts])


def _ordered(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Sorted stably, so that the sums below add up in one order."""
    return frame.sort(names, maintain_order=True)
