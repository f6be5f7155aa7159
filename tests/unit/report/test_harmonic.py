"""ROME's score S against its definition, scipy's, and the published code's value."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from scipy.stats import hmean

from editsweep.core import schema
from editsweep.report.aggregate import by_facet, leaderboard

GOLDENS = Path(__file__).parents[4] / "shared" / "reference" / "goldens.json"
CELL = {"cell_id": "c", "label": "c", "dataset": "d", "split": "test", "regime": "single"}
AXES = ("reliability", "paraphrase", "locality")


def board(
    edits: list[dict[str, float | None]], facets: str = "", subjects: int = 99
) -> list[dict[str, Any]]:
    """The rows of S; an edit is its values by axis, `near` being a neighbour."""
    plan = {"cells": [CELL | {"edits": len(edits)}]}
    rows, numbers = [], []
    for position, values in enumerate(edits):
        key = {"sweep_id": "s", "cell_id": "c", "unit_id": "u", "edit_id": f"e{position:03}"}
        rows.append(
            key
            | {"position": position, "group": position, "subject": f"s{position % subjects}"}
            | {"prompt": "{}", "target_new": "t", "relation": "", "status": "ok"}
        )
        for name, value in values.items():
            facet = "neighbourhood" if name == "near" else facets
            numbers += [
                key
                | {"probe_id": name, "axis": "locality" if name == "near" else name}
                | {"facet": facet, "metric": "preference", "protocol": "preference"}
                | {"phase": phase, "value": value}
                | {"status": "ok" if value is not None else "edit_failed"}
                for phase in ("pre", "post")
            ]
    tables = [
        pl.DataFrame(schema.table(kind, made))
        for kind, made in ((schema.EDITS, rows), (schema.MEASUREMENTS, numbers))
    ]
    assert "overall" not in by_facet(plan, *tables)["axis"]
    return leaderboard(plan, *tables).filter(axis="overall").to_dicts()


def test_it_is_the_harmonic_mean_of_the_three_means():
    edits = [dict(zip(AXES, values, strict=True)) for values in ((1, 1, 0.5), (0, 1, 0.25))]
    pre, post = board(edits)
    assert (pre["phase"], post["phase"]) == ("pre", "post")
    assert post["mean"] == pytest.approx(hmean([0.5, 1, 0.375]))
    assert (post["metric"], post["protocol"]) == ("harmonic_mean", "preference")
    assert (post["n"], post["asked"], post["interval"]) == (2, 2, "bootstrap")
    assert post["ci_low"] <= post["mean"] <= post["ci_high"]
    assert board(edits) == [pre, post]


def test_neighbours_count_where_a_dataset_marks_them():
    near = {"reliability": 1.0, "paraphrase": 1.0, "locality": 0.0, "near": 0.5}
    assert board([near])[1]["mean"] == pytest.approx(0.75)
    assert (board([near])[1]["ci_low"], board([near])[1]["interval"]) == (None, None)


def test_one_that_is_never_right_makes_it_zero_and_one_that_was_not_asked_leaves_it_out():
    assert board([{"reliability": 0, "paraphrase": 1, "locality": 1}] * 3)[1]["mean"] == 0
    assert board([{"reliability": 1, "locality": 1}] * 3) == []


def test_failed_edits_are_no_zeros():
    good = dict.fromkeys(AXES, 1.0)
    (row,) = board([good, dict.fromkeys(AXES)] * 2)[1:]
    assert (row["mean"], row["n"], row["asked"]) == (1.0, 2, 4)
    (row,) = board([dict.fromkeys(AXES)] * 2)[1:]
    assert (row["mean"], row["n"], row["asked"], row["ci_low"]) == (None, 0, 2, None)


def test_subjects_are_drawn_whole():
    good, bad = dict.fromkeys(AXES, 1.0), dict.fromkeys(AXES, 0.2)
    apart, together = board([good, bad] * 30)[1], board([good, bad] * 30, subjects=6)[1]
    width = [row["ci_high"] - row["ci_low"] for row in (apart, together)]
    assert width[1] > 2 * width[0]
    # A draw without any paraphrase says nothing, and hides nothing.
    some = board([good, {"reliability": 0.5, "locality": 0.5}])[1]
    assert (some["n"], some["mean"]) == (1, pytest.approx(hmean([0.75, 1, 0.75])))
    assert some["ci_high"] == 1


def test_against_the_published_code():
    if not GOLDENS.is_file():
        pytest.skip("no goldens.json in shared/reference beside the checkout")
    records = json.loads(GOLDENS.read_text())["metrics"]["counterfact_memit_code"]["records"]
    names = {"ES": "reliability", "PS": "paraphrase", "NS": "near"}
    edits = [{names[n]: r["post"][n] for n in names} for r in records.values()]
    means = [sum(e[axis] for e in edits) / len(edits) for axis in names.values()]
    assert board(edits)[1]["mean"] == pytest.approx(hmean(means), abs=1e-9)
    # The eight records' means and score as the published code's summary gives them.
    eight = [{"reliability": 1, "paraphrase": 1, "near": 0.575}] * 8
    assert board(eight)[1]["mean"] == pytest.approx(0.8023, abs=5e-5)
