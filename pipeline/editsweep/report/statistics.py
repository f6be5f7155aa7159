"""Intervals of a mean over edits.

Rates (every edit scores 0 or 1) get Wilson's score interval. Everything else gets an interval over
subjects, because edits of one subject are not independent of each other: a percentile bootstrap, and
from `MANY` subjects on, where the two agree, the normal one of a ratio of sums with the subjects'
variance (Cochran, Sampling Techniques, 1977, section 6.3), which takes far less time. The
bootstrap's seed is the hash of the row's key, so a number does not depend on which other rows are
asked for.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, norm
from statsmodels.stats.proportion import proportion_confint

from editsweep.core.ids import content_id

LEVEL = 0.95
RESAMPLES = 2000
MANY = 1000

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
        clusters: which subject each edit belongs to, as any numbers.
        key: what the values are; seeds the bootstrap.
        may_be_rate: whether values that are all 0 or 1 are successes and failures.

    Returns:
        Wilson's for a rate, also of a single edit. Else the bootstrap's or the normal one, which
        have width 0 when all subjects agree (resampling equal values gives that value), and nulls
        for a single subject, from which no spread can be learnt.
    """
    if may_be_rate and np.isin(values, (0.0, 1.0)).all():
        low, high = wilson(values.sum(), len(values))
        return Interval(float(low), float(high), "wilson")
    subjects, place = np.unique(clusters, return_inverse=True)
    if len(subjects) >= MANY:
        counts = np.bincount(place)
        apart = np.bincount(place, weights=values) - values.mean() * counts
        return normal(float(values.mean()), apart / len(values), values.min(), values.max())
    drawn = resampled(values, place, key)
    if drawn is None:
        return Interval(None, None, None)
    low, high = drawn.confidence_interval
    return Interval(float(low), float(high), "bootstrap")


def wilson(successes: Any, of: Any) -> tuple[Any, Any]:
    """The ends of Wilson's interval, of one rate or of arrays of them."""
    low, high = proportion_confint(successes, of, 1 - LEVEL, "wilson")
    return low, high


def normal(mean: float, pulls: NDArray[np.float64], lowest: float, highest: float) -> Interval:
    """The normal interval of an estimate to which each subject contributes apart from the others.

    Args:
        mean: the estimate.
        pulls: one a subject: by how much it moves the estimate; they sum to 0.
        lowest: what the estimate cannot be below.
        highest: what it cannot be above.
    """
    subjects = len(pulls)
    half = float(norm.ppf((1 + LEVEL) / 2) * np.sqrt((pulls**2).sum() * subjects / (subjects - 1)))
    return Interval(max(float(lowest), mean - half), min(float(highest), mean + half), "normal")


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
