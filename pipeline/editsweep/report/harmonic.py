"""ROME's score S: the harmonic mean of ES, PS and NS (arXiv 2202.05262, section 3.3).

It is taken of the three means over edits, not edit by edit, so an edit has none. Its interval is a
percentile bootstrap over subjects, each drawn with all that was asked about it, or with many of them
a normal interval by the delta method.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from editsweep.report.coded import Bools, Floats, Ints, PerEdit, Rows
from editsweep.report.statistics import MANY, Interval, draws, normal, percentiles

OVERALL = "overall"
NAME = "harmonic_mean"
PREFERENCE = "preference"
NEIGHBOURS = "neighbourhood"

# The axes of ES, PS and NS.
PARTS = ("reliability", "paraphrase", "locality")


def parts(rows: Rows) -> Bools:
    """Which measurements S is made of, before and after the edit.

    Of locality these are the neighbours, as in CounterFact; all of it where a cell has none.
    """
    chosen = (
        rows.is_in("metric", [PREFERENCE])
        & rows.is_in("protocol", [PREFERENCE])
        & rows.is_in("axis", PARTS)
        & rows.is_in("phase", ["pre", "post"])
    )
    local = chosen & rows.is_in("axis", ["locality"])
    near = local & rows.is_in("facet", [NEIGHBOURS])
    has_near = np.zeros(len(rows.names["cell_id"]), np.bool_)
    has_near[rows.codes["cell_id"][near]] = True
    kept: Bools = chosen & (~local | near | ~has_near[rows.codes["cell_id"]])
    return kept


def scores(values: PerEdit, clusters: Ints) -> Iterator[dict[str, object]]:
    """One row a cell and phase that has all three: mean, interval, n and asked.

    Args:
        values: of `parts`, by cell, axis, phase and edit.
        clusters: each value's subject.

    Yields:
        `cell_id axis metric protocol phase mean ci_low ci_high interval n asked`; `n` counts edits
        with all three values. Nulls where one of the three has none.
    """
    runs: dict[tuple[str, str], dict[str, slice]] = {}
    for run, (cell, axis, phase) in enumerate(values.keys):
        part = slice(values.starts[run], values.starts[run + 1])
        runs.setdefault((cell, phase), {})[axis] = part
    for (cell, phase), found in runs.items():
        if set(found) != set(PARTS):
            continue
        three = [found[name] for name in PARTS]
        there = [np.isfinite(values.value[part]) for part in three]
        who = [values.who[part] for part in three]
        names = {"axis": OVERALL, "metric": NAME, "protocol": PREFERENCE}
        counted = {"n": _in_all([w[t] for w, t in zip(who, there, strict=True)])}
        mean, ends = None, Interval(None, None, None)
        if all(some.any() for some in there):
            known = list(zip(three, there, strict=True))
            sums, counts = _by_subject(
                [values.value[part][t] for part, t in known],
                [clusters[part][t] for part, t in known],
            )
            mean = float(_score(sums.sum(axis=0), counts.sum(axis=0)))
            ends = _interval(mean, sums, counts)
        row: dict[str, object] = {"cell_id": cell, **names, "phase": phase, "mean": mean}
        yield (
            row
            | dict(zip(("ci_low", "ci_high", "interval"), ends, strict=True))
            | counted
            | {"asked": _in_all(who)}
        )


def _in_all(who: Sequence[NDArray[np.int32]]) -> int:
    """The edits that stand in all three parts."""
    counts = np.unique(np.concatenate(who), return_counts=True)[1]
    return int((counts == len(PARTS)).sum())


def _by_subject(values: Sequence[Floats], clusters: Sequence[Ints]) -> tuple[Floats, Floats]:
    """Sums and counts of the values of the three parts, each of shape (subjects, 3)."""
    subjects, at = np.unique(np.concatenate(clusters), return_inverse=True)
    part = np.repeat(np.arange(len(PARTS)), [len(some) for some in values])
    shape = (len(subjects), len(PARTS))
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (at, part), np.concatenate(values))
    np.add.at(counts, (at, part), 1.0)
    return sums, counts


def _interval(mean: float, sums: Floats, counts: Floats) -> Interval:
    """Draws in which one of the three has no value at all say nothing and are left out."""
    subjects = len(counts)
    if subjects < 2:
        return Interval(None, None, None)
    if subjects >= MANY:
        # S is 0 where all of a part is, and so is every draw's.
        pulls = _pulls(mean, sums, counts) if mean > 0 else np.zeros(subjects)
        return normal(mean, pulls, 0.0, 1.0)
    drawn = np.concatenate([_score(often @ sums, often @ counts) for often in draws(subjects)])
    return percentiles(drawn[None, np.isfinite(drawn)])[0]


def _pulls(mean: float, sums: Floats, counts: Floats) -> Floats:
    """By how much each subject moves S, to first order: d S / d mean_i is (S / mean_i)² / 3."""
    asked = counts.sum(axis=0)
    means = sums.sum(axis=0) / asked
    slopes = (mean / means) ** 2 / len(PARTS)
    moved: Floats = ((sums - means * counts) / asked * slopes).sum(axis=1)
    return moved


def _score(sums: Floats, counts: Floats) -> Floats:
    """The harmonic mean along the last axis; NaN where there is nothing to take a mean of."""
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    with np.errstate(divide="ignore"):
        found: Floats = len(PARTS) / (1 / means).sum(axis=-1)
    return found
