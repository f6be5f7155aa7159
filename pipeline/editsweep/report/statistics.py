"""Intervals of a mean over edits.

Rates (every edit scores 0 or 1) get Wilson's score interval. Everything else gets an interval over
subjects, because edits of one subject are not independent of each other: a percentile bootstrap, and
from `MANY` subjects on, where the two agree, the normal one of a ratio of sums with the subjects'
variance (Cochran, Sampling Techniques, 1977, section 6.3), which takes far less time. All numbers
over k subjects share the same draws, whose seed is k: so many numbers are one product of matrices,
and a number does not depend on which other rows are asked for.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from editsweep.core.ids import content_id

LEVEL = 0.95
RESAMPLES = 2000
MANY = 1000

Floats = NDArray[np.float64]
# Means that are bootstrapped at once, and numbers that are drawn: they bound memory, not the result.
_TOGETHER = 512
_DRAW = 4_000_000


class Interval(NamedTuple):
    """A 95 % interval and how it was made; nulls when nothing can be said."""

    low: float | None
    high: float | None
    method: str | None


class Sample(NamedTuple):
    """What a mean is over: for each subject the sum and the number of its values."""

    sums: Floats
    counts: Floats
    lowest: float
    highest: float

    @property
    def subjects(self) -> int:
        """How many subjects there are."""
        return len(self.counts)

    @classmethod
    def of(cls, values: Floats, clusters: NDArray[np.int64]) -> "Sample":
        """Of one value an edit, and which subject each edit belongs to, as any numbers."""
        subjects, place = np.unique(clusters, return_inverse=True)
        counts = np.bincount(place, minlength=len(subjects)).astype(np.float64)
        sums = np.bincount(place, weights=values, minlength=len(subjects)).astype(np.float64)
        return cls(sums, counts, float(values.min()), float(values.max()))


def interval(values: Floats, clusters: NDArray[np.int64], may_be_rate: bool = True) -> Interval:
    """The interval of the mean of `values`.

    Args:
        values: one an edit; not empty.
        clusters: which subject each edit belongs to, as any numbers.
        may_be_rate: whether values that are all 0 or 1 are successes and failures.

    Returns:
        Wilson's for a rate, also of a single edit. Else that of `intervals`.
    """
    if may_be_rate and np.isin(values, (0.0, 1.0)).all():
        low, high = wilson(values.sum(), len(values))
        return Interval(float(low), float(high), "wilson")
    return intervals([Sample.of(values, clusters)])[0]


def intervals(samples: Sequence[Sample]) -> list[Interval]:
    """The bootstrap's or the normal interval of each mean.

    It has width 0 when all subjects agree (resampling equal values gives that value), and nulls
    for a single subject, from which no spread can be learnt.
    """
    made = [Interval(None, None, None)] * len(samples)
    few = [place for place, sample in enumerate(samples) if sample.subjects < MANY]
    few.sort(key=lambda place: samples[place].subjects)
    for first in range(0, len(few), _TOGETHER):
        some = few[first : first + _TOGETHER]
        drawn = zip(some, resampled([samples[place] for place in some]), strict=True)
        there = {place: means for place, means in drawn if means is not None}
        ends_of = percentiles(np.stack(list(there.values()))) if there else []
        for place, ends in zip(there, ends_of, strict=True):
            made[place] = ends
    for place, sample in enumerate(samples):
        if sample.subjects >= MANY:
            mean = float(sample.sums.sum() / sample.counts.sum())
            pulls = (sample.sums - mean * sample.counts) / sample.counts.sum()
            made[place] = normal(mean, pulls, sample.lowest, sample.highest)
    return made


def wilson(successes: Any, of: Any) -> tuple[Any, Any]:
    """The ends of Wilson's interval, of one rate or of arrays of them."""
    low, high = proportion_confint(successes, of, 1 - LEVEL, "wilson")
    return low, high


def normal(mean: float, pulls: Floats, lowest: float, highest: float) -> Interval:
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


def resampled(samples: Sequence[Sample]) -> list[Floats | None]:
    """For each sample its `RESAMPLES` means over drawn subjects; None for a single subject."""
    made: list[Floats | None] = [None] * len(samples)
    by_size: dict[int, list[int]] = {}
    for place, sample in enumerate(samples):
        by_size.setdefault(sample.subjects, []).append(place)
    for size, places in by_size.items():
        if size > 1:
            sums, counts = (
                np.stack([samples[place][column] for place in places], axis=1) for column in (0, 1)
            )
            means = np.concatenate([often @ sums / (often @ counts) for often in draws(size)])
            for place, own in zip(places, means.T, strict=True):
                made[place] = own
    return made


def percentiles(drawn: Floats) -> list[Interval]:
    """The percentile interval of each row of draws."""
    ends = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=-1).T
    # The last digits of a product of matrices depend on what else is in them.
    rounded = ([float(f"{end:.12g}") for end in pair] for pair in ends.tolist())
    return [Interval(low, high, "bootstrap") for low, high in rounded]


def draws(subjects: int) -> Iterable[Floats]:
    """How often each of so many subjects is drawn, resample by resample.

    Blocks of shape (some, subjects), `RESAMPLES` rows together; each row sums to `subjects`.
    """
    return _few(subjects) if subjects < MANY else _drawn(subjects)


@lru_cache(maxsize=4)
def _few(subjects: int) -> Sequence[Floats]:
    return list(_drawn(subjects))


def _drawn(subjects: int) -> Iterator[Floats]:
    rng = np.random.default_rng(int(content_id(["bootstrap", subjects]), 16))
    step = max(1, _DRAW // subjects)
    for done in range(0, RESAMPLES, step):
        times = min(step, RESAMPLES - done)
        yield rng.multinomial(subjects, np.full(subjects, 1 / subjects), times).astype(np.float64)
