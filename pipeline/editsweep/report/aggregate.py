"""Leaderboards: the mean of each edit first, then over edits, with an interval and what is missing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from editsweep.core.types import AXES
from editsweep.report import harmonic
from editsweep.report.columns import NO_RATES
from editsweep.report.statistics import interval

DRIFT = "drift"

CELL = ("cell_id", "label", "model", "editor", "dataset", "regime", "seed")
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
    return _aggregate(plan, edits, measurements, known, ())


def by_facet(
    plan: Mapping[str, Any],
    edits: pl.DataFrame,
    measurements: pl.DataFrame,
    known: bool | None = None,
) -> pl.DataFrame:
    """`leaderboard` with a further column `facet` after `axis`, and without the axis `overall`."""
    return _aggregate(plan, edits, measurements, known, ("facet",))


def timings(plan: Mapping[str, Any], edits: pl.DataFrame) -> pl.DataFrame:
    """Measured seconds an edit by cell: `edit_s`, `probe_s` and their sum `total_s`, means."""
    measured = _ordered(edits, ("cell_id", "position", "edit_id")).with_columns(
        total_s=pl.col("edit_s") + pl.col("probe_s")
    )
    means = measured.group_by("cell_id", maintain_order=True).agg(
        pl.col("edit_s", "probe_s", "total_s").mean(), edits=pl.len().cast(pl.Int64)
    )
    return (
        cells_of(plan)
        .select("order", *CELL)
        .join(means, on="cell_id", how="left", maintain_order="left")
        .with_columns(pl.col("edits").fill_null(0))
        .drop("order")
    )


def _aggregate(
    plan: Mapping[str, Any],
    edits: pl.DataFrame,
    measurements: pl.DataFrame,
    known: bool | None,
    extra: tuple[str, ...],
) -> pl.DataFrame:
    if known is not None:
        edits = edits.filter(pl.col("known") == known)
        measurements = measurements.join(edits, on=["cell_id", "edit_id"], how="semi")
    key = ("axis", *extra, "metric", "protocol", "phase")
    numbers = numbers_of(per_edit(_at_the_end(measurements, edits), edits, key), key)
    if not extra:
        numbers = pl.concat([numbers, _overall(measurements, edits, numbers.schema)])
    cells = cells_of(plan).join(_recorded(edits), on="cell_id", how="left", maintain_order="left")
    rows = _expected(cells, numbers, key).join(
        numbers, on=["cell_id", *key], how="left", maintain_order="left"
    )
    missing = pl.lit(None, pl.Int64) if known is not None else pl.col("edits") - pl.col("recorded")
    return (
        rows.with_columns(pl.col("n", "asked", "failed", "recorded").fill_null(0))
        .with_columns(missing=missing)
        .sort("order", AXIS_ORDER, *key[:-1], pl.col("phase").replace_strict(_PHASES))
        .select(*CELL, *key, *NUMBERS, "asked", "failed", "missing")
    )


def _overall(measurements: pl.DataFrame, edits: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """The rows of the score S; none of a cell that lacks a part of it."""
    values = per_edit(harmonic.parts(measurements), edits, ("axis", "phase"))
    return pl.DataFrame(list(harmonic.scores(values)), schema=schema)


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


def _at_the_end(measurements: pl.DataFrame, edits: pl.DataFrame) -> pl.DataFrame:
    """Without what sequences were like before their last checkpoint."""
    found = measurements.filter(late())
    if found.is_empty():
        return measurements
    at = stations(edits).join(found, on=["cell_id", "unit_id"], how="semi")
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
        _ordered(edits, ("cell_id",))
        .group_by("cell_id", maintain_order=True)
        .agg(
            recorded=pl.len().cast(pl.Int64),
            failed=(pl.col("status") == "failed").sum().cast(pl.Int64),
        )
    )


def per_edit(measurements: pl.DataFrame, edits: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """One row a cell, key and edit: the mean over its probes, null if none has a value.

    `cluster` is the subject; an edit without one stands alone.
    """
    subjects = edits.select("cell_id", "edit_id", "subject").unique(
        ["cell_id", "edit_id"], keep="first", maintain_order=True
    )
    finite = pl.when(pl.col("value").is_finite()).then("value")
    order = ("cell_id", *key, "edit_id")
    return (
        _ordered(measurements, (*order, "facet", "probe_id"))
        .group_by(order, maintain_order=True)
        .agg(finite.mean().alias("value"))
        .join(subjects, on=["cell_id", "edit_id"], how="left", maintain_order="left")
        .with_columns(cluster=pl.coalesce("subject", pl.lit("\0") + pl.col("edit_id")))
    )


def numbers_of(edits: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """One row a cell and key: mean, interval, n and asked."""
    names = ("cell_id", *key)
    groups = edits.group_by(names, maintain_order=True).agg(
        pl.len().alias("asked"),
        pl.col("value").drop_nulls().alias("values"),
        pl.col("cluster").filter(pl.col("value").is_not_null()).rank("dense").alias("clusters"),
    )
    rows = []
    for row in groups.iter_rows(named=True):
        identity = [row[name] for name in names]
        values = np.asarray(row["values"], dtype=np.float64)
        clusters = np.asarray(row["clusters"], dtype=np.int64) - 1
        number = _number(values, clusters, identity, row["metric"] not in NO_RATES)
        rows.append((*identity, *number, row["asked"]))
    types = dict.fromkeys(names, pl.String) | dict(NUMBERS) | {"asked": pl.Int64}
    made = pl.DataFrame(rows, schema=types, orient="row")
    # Drift is one measurement of one model, not a sample of edits.
    bare = pl.when(pl.col("axis") != DRIFT)
    return made.with_columns(bare.then(name).alias(name) for name in _INTERVAL)


def _number(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    key: Sequence[object],
    may_be_rate: bool,
) -> tuple[float | None, float | None, float | None, str | None, int]:
    if len(values) == 0:
        return None, None, None, None, 0
    found = interval(values, clusters, key, may_be_rate)
    return float(values.mean()), found.low, found.high, found.method, len(values)


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
