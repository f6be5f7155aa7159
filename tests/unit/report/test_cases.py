"""Scores of cases, from tables made by hand."""

import polars as pl
import pytest

from editsweep.report.cases import SCORES, case_scores

CELL = {
    "cell_id": "c",
    "label": "rome",
    "model": "m",
    "editor": "rome",
    "dataset": "d",
    "split": "all",
    "regime": "single",
    "seed": 0,
    "edits": 7,
}
PLAN = {"cells": [CELL, CELL | {"cell_id": "x", "label": "none"}]}
CASES = ["1", "1", "2", "2", "3", "3", ""]
# What each edit says to its own prompt after it; the sixth failed. Then the last edit's wordings.
RIGHT = [1.0, 1.0, 1.0, 0.0, 1.0, None, 1.0]
HOPS = {1: [0.0, 1.0, 0.0], 3: [0.0, 0.0, 0.0], 5: [None, None, None]}


def tables(right=RIGHT, hops=HOPS, metric="exact_match", protocol="exact_match"):
    edits = [
        {"cell_id": "c", "edit_id": f"e{i}", "case": case, "subject": "s"}
        for i, case in enumerate(CASES)
    ]
    rows = []

    def row(edit, probe, axis, facet, phase, value):
        rows.append(
            {
                "cell_id": "c",
                "edit_id": f"e{edit}",
                "probe_id": probe,
                "axis": axis,
                "facet": facet,
                "metric": metric,
                "protocol": protocol,
                "phase": phase,
                "value": value,
                "status": "refused" if value is None else "ok",
            }
        )

    for i, value in enumerate(right):
        row(i, "r", "reliability", "", "pre", 0.0)
        row(i, "r", "reliability", "", "post", value)
        row(i, "p", "portability", "alias", "post", 1.0)
        row(i, "r", "reliability", "", "retained", 0.0)
    for i, values in hops.items():
        for k, value in enumerate(values):
            row(i, f"h{k}", "portability", "multi_hop", "post", value)
    return pl.DataFrame(edits), pl.DataFrame(rows)


def found(frame):
    return {(r["score"], r["phase"]): (r["mean"], r["n"], r["asked"]) for r in frame.to_dicts()}


def test_the_three_scores():
    frame = case_scores(PLAN, *tables())
    assert found(frame) == {
        ("edit-wise", "pre"): (0.0, 6, 6),
        ("edit-wise", "post"): (pytest.approx(4 / 5), 5, 6),
        ("case-wise", "pre"): (0.0, 3, 3),
        ("case-wise", "post"): (0.5, 2, 3),
        ("multi-hop", "post"): (0.5, 2, 3),
    }
    assert list(dict.fromkeys(frame["score"])) == list(SCORES)
    assert set(frame["interval"]) == {"wilson"}
    assert set(frame["cell_id"]) == {"c"}


def test_each_protocol_has_its_own_and_other_metrics_have_none():
    said = tables(metric="contains", protocol="generation")
    edits, exact = tables()
    frame = case_scores(PLAN, edits, pl.concat([exact, said[1]]))
    assert {(r["metric"], r["protocol"]) for r in frame.to_dicts()} == {
        ("exact_match", "exact_match"),
        ("contains", "generation"),
    }
    assert case_scores(PLAN, *tables(metric="token_match", protocol="token_match")).is_empty()


def test_without_cases_there_is_nothing():
    edits, measurements = tables()
    for nothing in (pl.lit(""), pl.lit(None, pl.String)):
        assert case_scores(PLAN, edits.with_columns(case=nothing), measurements).is_empty()


def test_the_order_of_rows_changes_nothing():
    edits, measurements = tables()
    backwards = case_scores(PLAN, edits.reverse(), measurements.reverse())
    assert backwards.equals(case_scores(PLAN, edits, measurements))


def test_categorical_measurements_give_the_same():
    edits, measurements = tables()
    coded = measurements.with_columns(pl.col(pl.String).cast(pl.Categorical))
    plain = case_scores(PLAN, edits, measurements)
    assert plain.height
    assert plain.equals(case_scores(PLAN, edits, coded))
