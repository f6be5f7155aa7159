"""With many subjects the normal interval says what the bootstrap does."""

import numpy as np
import pytest

from editsweep.report.harmonic import _interval, _score
from editsweep.report.statistics import MANY, interval, resampled


def test_with_many_subjects_it_is_normal_and_agrees_with_the_bootstrap():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(2 * MANY), rng.integers(1, 5, 2 * MANY))
    values = rng.beta(2, 1, 2 * MANY)[clusters] ** 2
    low, high, method = interval(values, clusters, ["k"])
    assert method == "normal"
    drawn = resampled(values, clusters, ["k"]).confidence_interval
    assert (low, high) == pytest.approx((drawn.low, drawn.high), abs=0.15 * (high - low))
    few = clusters < MANY - 1
    assert interval(values[few], clusters[few], ["k"]).method == "bootstrap"


def test_it_stays_among_the_values_and_has_no_width_where_they_agree():
    clusters = np.arange(MANY)
    assert interval(np.full(MANY, 0.25), clusters, ["k"]) == (0.25, 0.25, "normal")
    rare = np.where(clusters == 0, 0.5, 0.0)
    assert interval(rare, clusters, ["k"]).low == 0.0


def test_the_score_of_many_subjects_agrees_with_its_bootstrap():
    rng = np.random.default_rng(1)
    counts = np.ones((MANY, 3))
    sums = rng.random((MANY, 3)) ** np.array([0.5, 1.0, 2.0])
    mean = float(_score(sums.sum(axis=0), counts.sum(axis=0)))
    low, high, method = _interval(mean, sums, counts, ["k"])
    few = _interval(
        float(_score(sums[1:].sum(axis=0), counts[1:].sum(axis=0))), sums[1:], counts[1:], ["k"]
    )
    assert (method, few.method) == ("normal", "bootstrap")
    assert (low, high) == pytest.approx(few[:2], abs=0.2 * (high - low))
