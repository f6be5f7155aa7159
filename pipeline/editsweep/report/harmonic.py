"""ROME's score S: the harmonic mean of ES, PS and NS (arXiv 2202.05262, section 3.3).

It is taken of the three means over edits, not edit by edit, so an edit has none. Its interval is a
percentile bootstrap over subjects, each drawn with all that was asked about it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import hmean

from editsweep.core.ids import content_id
from editsweep.report.statistics import LEVEL, RESAMPLES, Interval

OVERALL = "overall"
NAME = "harmonic_mean"
PREFERENCE = "preference"
NEIGHBOURS = "neighbourhood"

# The axes of ES, PS and NS.
PARTS = ("reliability", "paraphrase", "locality")
# Draws of all subjects that are counted at once: bounds memory, not the result.
_DRAW = 2_000_000


def parts(measurements: pl.DataFrame) -> pl.DataFrame:
    """The measurements that S is made of, before and after the edit.

    Of locality these are the neighbours, as in CounterFact; all of it where a cell has none.
    """
    chosen = measurements.filter(
        pl.col("metric") == PREFERENCE,
        pl.col("protocol") == PREFERENCE,
        pl.col("axis").is_in(PARTS),
        pl.col("phase").is_in(["pre", "post"]),
    )
    is_near = (pl.col("axis") == "locality") & (pl.col("facet") == NEIGHBOURS)
    kept = (pl.col("axis") != "locality") | is_near | ~is_near.any().over("cell_id")
    return chosen.filter(kept)


def scores(edits: pl.DataFrame) -> Iterator[dict[str, object]]:
    """One row a cell and phase that has all three: mean, interval, n and asked.

    Args:
        edits: of `parts`, one row a cell, axis, phase and edit: `value`, and its subject `cluster`.

    Yields:
        `cell_id axis metric protocol phase mean ci_low ci_high interval n asked`; `n` counts edits
        with all three values. Nulls where one of the three has none.
    """
    for (cell, phase), group in edits.group_by("cell_id", "phase", maintain_order=True):
        if set(group["axis"]) != set(PARTS):
            continue
        known = group.drop_nulls("value")
        whole = [_complete(frame) for frame in (known, group)]
        names = {"axis": OVERALL, "metric": NAME, "protocol": PREFERENCE}
        row = {"cell_id": cell, **names, "phase": phase, "n": whole[0], "asked": whole[1]}
        mean, found = None, Interval(None, None, None)
        if set(known["axis"]) == set(PARTS):
            sums, counts = _by_subject(known)
            mean = float(_score(sums.sum(axis=0), counts.sum(axis=0)))
            found = _interval(sums, counts, [cell, OVERALL, NAME, phase])
        yield row | {
            "mean": mean,
            **dict(zip(("ci_low", "ci_high", "interval"), found, strict=True)),
        }


def _complete(frame: pl.DataFrame) -> int:
    """The edits that stand in all three parts."""
    return int((frame.group_by("edit_id").len()["len"] == len(PARTS)).sum())


def _by_subject(known: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and counts of values, each of shape (subjects, 3)."""
    at = known["cluster"].rank("dense").to_numpy().astype(np.int64) - 1
    part = known["axis"].replace_strict({name: i for i, name in enumerate(PARTS)}).to_numpy()
    shape = (int(at.max()) + 1, len(PARTS))
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (at, part), known["value"].to_numpy())
    np.add.at(counts, (at, part), 1.0)
    return sums, counts


def _interval(
    sums: NDArray[np.float64], counts: NDArray[np.float64], key: Sequence[object]
) -> Interval:
    """Draws in which one of the three has no value at all say nothing and are left out."""
    subjects = len(counts)
    if subjects < 2:
        return Interval(None, None, None)
    rng = np.random.default_rng(int(content_id(list(key)), 16))
    step = max(1, _DRAW // subjects)
    drawn = np.concatenate(
        [
            _drawn(rng, min(step, RESAMPLES - done), sums, counts)
            for done in range(0, RESAMPLES, step)
        ]
    )
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), "bootstrap")


def _drawn(
    rng: np.random.Generator,
    times: int,
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    subjects = len(counts)
    often = rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=times)
    return _score(often @ sums, often @ counts)


def _score(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The harmonic mean along the last axis; NaN where there is nothing to take a mean of."""
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    found: NDArray[np.float64] = np.asarray(hmean(means, axis=-1))
    return found
