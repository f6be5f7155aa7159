"""Two cells on the same edits, against what scipy and a textbook say."""

import polars as pl
import pytest
from scipy.stats import binomtest

from editsweep.core import schema
from editsweep.errors import ConfigError
from editsweep.report.compare import Side, compare

CELLS = [{"cell_id": name, "label": name} for name in "ab"]


def sides(values, axis="reliability", metric="exact_match", subjects=None):
    """Cells a and b; `values` are (a, b) of each edit, None where an edit failed."""
    edits, numbers = [], []
    for position, pair in enumerate(values):
        for cell, value in zip("ab", pair, strict=True):
            key = {"sweep_id": "s", "cell_id": cell, "unit_id": "u", "edit_id": f"e{position:03}"}
            subject = subjects[position] if subjects else f"s{position}"
            edits.append(
                key
                | {"position": position, "group": position, "subject": subject, "prompt": "{}"}
                | {"target_new": "t", "relation": "", "status": "ok"}
            )
            numbers += [
                key
                | {"probe_id": "p", "axis": axis, "facet": "", "metric": metric}
                | {"protocol": metric, "phase": phase}
                | {"value": 0.5 if phase == "pre" else value}
                | {"status": "ok" if value is not None else "edit_failed"}
                for phase in ("pre", "post")
            ]
    tables = (
        pl.DataFrame(schema.table(schema.EDITS, edits)),
        pl.DataFrame(schema.table(schema.MEASUREMENTS, numbers)),
    )
    return (Side(name, {"cells": CELLS}, *tables) for name in "ab")


def test_rates_are_tested_on_the_edits_in_which_the_two_differ():
    values = [(1, 1)] * 5 + [(1, 0)] * 9 + [(0, 1)] * 2 + [(0, 0)] * 4 + [(None, 1)]
    (row,) = compare(*sides(values)).to_dicts()
    assert (row["n"], row["test"]) == (20, "mcnemar")
    assert row["difference"] == pytest.approx(7 / 20)
    assert row["p"] == row["p_holm"] == pytest.approx(binomtest(2, 11).pvalue)
    assert row["ci_low"] < 7 / 20 < row["ci_high"]


def test_other_means_are_tested_by_the_paired_bootstrap():
    near = [(0.5 + 0.01 * (i % 5), 0.5 + 0.01 * ((i + 2) % 5)) for i in range(40)]
    (same,) = compare(*sides(near, "locality", "agreement")).to_dicts()
    (better,) = compare(*sides([(a + 0.1, b) for a, b in near], "locality", "agreement")).to_dicts()
    assert same["test"] == "bootstrap"
    assert same["p"] > 0.05
    assert better["p"] < 0.01
    assert better["ci_low"] > 0
    # Pairing: what both share does not widen the interval.
    assert better["ci_high"] - better["ci_low"] < 0.03


def test_edits_of_one_subject_are_no_independent_evidence():
    values = [(0.9, 0.2), (0.1, 0.3), (0.8, 0.1), (0.2, 0.4)] * 10
    apart = compare(*sides(values, "locality", "agreement")).to_dicts()[0]
    few = [f"s{i % 4}" for i in range(40)]
    together = compare(*sides(values, "locality", "agreement", few)).to_dicts()[0]
    width = [row["ci_high"] - row["ci_low"] for row in (apart, together)]
    assert width[1] > 1.5 * width[0]


def test_a_smaller_difference_needs_more_edits_and_equal_cells_none():
    values = [(i % 2, (i // 2) % 2) for i in range(40)]
    needed = [compare(*sides(values), difference=d).to_dicts()[0]["needed"] for d in (0.2, 0.1)]
    # (1.96 + 0.84)² var / δ², the textbook's approximation.
    assert needed[0] == pytest.approx(7.85 * 0.51 / 0.04, rel=0.05)
    assert needed[1] == pytest.approx(4 * needed[0], rel=0.05)
    (equal,) = compare(*sides([(1, 1)] * 5)).to_dicts()
    assert (equal["needed"], equal["p"], equal["difference"]) == (None, 1, 0)


def test_only_what_the_model_knew_before():
    def known(side):
        is_known = (pl.col("position") < 6).alias("known")
        return Side(side.label, side.plan, side.edits.with_columns(is_known), side.measurements)

    a, b = map(known, sides([(1, 0)] * 6 + [(0, 1)] * 4))
    assert [compare(a, b, known=k)["difference"].item() for k in (None, True, False)] == [
        pytest.approx(0.2),
        1,
        -1,
    ]
    c, d = map(known, sides([(1, 0)] * 6))
    with pytest.raises(ConfigError, match="whose old fact was not known"):
        compare(c, d, known=False)


def test_cells_that_cannot_be_compared_are_refused():
    a, b = sides([(1, 1)] * 3)
    with pytest.raises(ConfigError, match="did you mean 'a'"):
        compare(Side("aa", a.plan, a.edits, a.measurements), b)
    with pytest.raises(ConfigError, match="no measured edit in common"):
        compare(*sides([(None, 1)] * 3))
