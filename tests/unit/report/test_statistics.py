"""With many subjects the normal interval says what the bootstrap does."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from editsweep.report.harmonic import _interval, _score
from editsweep.report.statistics import MANY, Sample, interval, intervals, percentiles, resampled


def test_with_many_subjects_it_is_normal_and_agrees_with_the_bootstrap():
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(2 * MANY), rng.integers(1, 5, 2 * MANY))
    values = rng.beta(2, 1, 2 * MANY)[clusters] ** 2
    low, high, method = interval(values, clusters)
    assert method == "normal"
    (drawn,) = resampled([Sample.of(values, clusters)])
    assert (low, high) == pytest.approx(percentiles(drawn[None])[0][:2], abs=0.15 * (high - low))
    few = clusters < MANY - 1
    assert interval(values[few], clusters[few]).method == "bootstrap"


def test_it_stays_among_the_values_and_has_no_width_where_they_agree():
    clusters = np.arange(MANY)
    assert interval(np.full(MANY, 0.25), clusters) == (0.25, 0.25, "normal")
    rare = np.where(clusters == 0, 0.5, 0.0)
    assert interval(rare, clusters).low == 0.0


def test_the_score_of_many_subjects_agrees_with_its_bootstrap():
    rng = np.random.default_rng(1)
    counts = np.ones((MANY, 3))
    sums = rng.random((MANY, 3)) ** np.array([0.5, 1.0, 2.0])
    mean = float(_score(sums.sum(axis=0), counts.sum(axis=0)))
    low, high, method = _interval(mean, sums, counts)
    few = _interval(
        float(_score(sums[1:].sum(axis=0), counts[1:].sum(axis=0))), sums[1:], counts[1:]
    )
    assert (method, few.method) == ("normal", "bootstrap")
    assert (low, high) == pytest.approx(few[:2], abs=0.2 * (high - low))


def spread(subjects, seed=0):
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(subjects), rng.integers(1, 5, subjects))
    return rng.beta(2, 1, subjects)[clusters] ** 2, clusters


@pytest.mark.parametrize("subjects", [5, 60, 400])
def test_it_says_what_scipys_bootstrap_says(subjects):
    values, clusters = spread(subjects)
    sums, counts = np.bincount(clusters, weights=values), np.bincount(clusters)
    theirs = bootstrap(
        (sums, counts),
        lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    low, high, method = interval(values, clusters)
    assert method == "bootstrap"
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.07 * (high - low))


def test_an_interval_is_the_same_alone_as_among_others():
    samples = [Sample.of(*spread(k, i)) for i, k in enumerate((7, 30, 30, 1, 7, MANY + 1))]
    among = intervals(samples)
    assert among == [intervals([sample])[0] for sample in samples]
    assert among[3] == (None, None, None)
    assert len({ends.low for ends in among}) == len(samples)


def test_a_mean_over_drawn_subjects_takes_all_of_their_edits():
    values, clusters = np.array([0.0, 0.0, 0.0, 1.0]), np.array([4, 4, 4, 9])
    (drawn,) = resampled([Sample.of(values, clusters)])
    assert set(drawn) == {0.0, 0.25, 1.0}
    assert np.mean(drawn == 0.25) == pytest.approx(0.5, abs=0.05)
