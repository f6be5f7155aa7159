"""Intervals of a mean over edits.

Rates (every edit scores 0 or 1) get Wilson's score interval. Everything else gets a percentile
bootstrap over subjects, because edits of one subject are not independent of each other. Its seed is
the hash of the row's key, so a number does not depend on which other rows are asked for.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap
from statsmodels.stats.proportion import proportion_confint

from editsweep.core.ids import content_id

LEVEL = 0.95
RESAMPLES = 2000

# A bootstrap draws at most this many values at once: bounds memory, not the result.
_DRAW = 2_000_000


class Interval(NamedTuple):
    """A 95 % interval and how it was made; nulls when nothing can be said."""

    low: float | None
    high: float | None
    method: str | None


def interval(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    key: Sequence[object],
    may_be_rate: bool = True,
) -> Interval:
    """The interval of the mean of `values`.

    Args:
        values: one an edit; not empty.
        clusters: which subject each edit belongs to, 0 .. k-1.
        key: what the values are; seeds the bootstrap.
        may_be_rate: whether values that are all 0 or 1 are successes and failures.

    Returns:
        Wilson's for a rate, also of a single edit. Else the bootstrap's, which
        has width 0 when all subjects agree (resampling equal values gives that value), and nulls
        for a single subject, from which no spread can be learnt.
    """
    if may_be_rate and np.isin(values, (0.0, 1.0)).all():
        low, high = proportion_confint(values.sum(), len(values), 1 - LEVEL, "wilson")
        return Interval(float(low), float(high), "wilson")
    drawn = resampled(values, clusters, key)
    if drawn is None:
        return Interval(None, None, None)
    low, high = drawn.confidence_interval
    return Interval(float(low), float(high), "bootstrap")


def resampled(
    values: NDArray[np.float64], clusters: NDArray[np.int64], key: Sequence[object]
) -> Any:
    """The mean of `values` bootstrapped over clusters, as scipy gives it; None for one cluster.

    Args:
        values: one an edit; not empty.
        clusters: which subject each edit belongs to, 0 .. k-1.
        key: what the values are; seeds the draws.
    """
    counts = np.bincount(clusters)
    if len(counts) < 2:
        return None
    return bootstrap(
        (np.bincount(clusters, weights=values), counts.astype(np.float64)),
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _DRAW // len(counts)),
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(int(content_id(list(key)), 16)),
    )


def _ratio(
    sums: NDArray[np.float64], counts: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    """The mean over all edits of the drawn subjects."""
    mean: NDArray[np.float64] = sums.sum(axis=axis) / counts.sum(axis=axis)
    return mean
