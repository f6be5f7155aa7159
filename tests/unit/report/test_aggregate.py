"""Per edit first, then over edits; an interval beside every mean; nothing missing, no false zero."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from editsweep.core import schema
from editsweep.report.aggregate import by_facet, leaderboard, timings
from editsweep.report.statistics import interval

CELL = {
    "cell_id": "c1",
    "label": "one",
    "model": "m",
    "editor": "e",
    "dataset": "d",
    "split": "test",
    "regime": "single",
    "seed": 0,
    "edits": 4,
}


def plan(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": [CELL, *({**CELL, **cell} for cell in cells)]}


def frames(*facts: tuple[Any, ...], cell: str = "c1") -> tuple[pl.DataFrame, pl.DataFrame]:
    """Facts are (edit, subject, known, status, {probe: (axis, facet, metric, phase, value)})."""
    edits, numbers = [], []
    for position, (edit, subject, known, status, probes) in enumerate(facts):
        key = {"sweep_id": "s", "cell_id": cell, "unit_id": "u", "edit_id": edit}
        edits.append(
            key
            | {"position": position, "group": position, "subject": subject, "prompt": "{}"}
            | {"target_new": "t", "relation": "", "known": known, "status": status}
            | {"edit_s": 1.0 + position, "probe_s": 0.5}
        )
        for probe, (axis, facet, metric, phase, value) in probes.items():
            numbers.append(
                key
                | {"probe_id": probe, "axis": axis, "facet": facet, "metric": metric}
                | {"protocol": "t", "phase": phase, "value": value}
                | {"status": "ok" if value is not None else "edit_failed"}
            )
    made = (schema.table(schema.EDITS, edits), schema.table(schema.MEASUREMENTS, numbers))
    return tuple(pl.DataFrame(table) for table in made)  # type: ignore[return-value]


def probes(*values: float | None, axis: str = "paraphrase", metric: str = "em") -> dict[str, Any]:
    return {f"p{i}": (axis, f"f{i}", metric, "post", v) for i, v in enumerate(values)}


def test_an_edit_with_many_probes_weighs_no_more() -> None:
    edits, numbers = frames(
        ("a", "s1", True, "ok", probes(1, 1, 1, 1)),
        ("b", "s2", True, "ok", probes(0)),
    )
    (row,) = leaderboard(plan(), edits, numbers).to_dicts()
    assert (row["mean"], row["n"], row["asked"], row["missing"]) == (0.5, 2, 2, 2)


def test_wilson_is_the_textbook_formula() -> None:
    facts = [(f"e{i}", f"s{i}", None, "ok", probes(float(i < 7))) for i in range(9)]
    (row,) = leaderboard(plan(), *frames(*facts)).to_dicts()
    z, n, p = norm.ppf(0.975), 9, 7 / 9
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert row["interval"] == "wilson"
    assert row["ci_low"] == pytest.approx(middle - half)
    assert row["ci_high"] == pytest.approx(middle + half)


def test_a_failed_edit_has_no_value_and_is_counted() -> None:
    edits, numbers = frames(
        ("a", "s", True, "ok", probes(1.0)),
        ("b", "t", True, "failed", probes(None)),
        ("c", "u", True, "ok", probes(math.nan)),
    )
    (row,) = leaderboard(plan(), edits, numbers).to_dicts()
    assert row["mean"] == 1.0
    assert (row["n"], row["asked"], row["failed"], row["missing"]) == (1, 3, 1, 1)


def test_nothing_measured_is_null_not_zero_and_not_absent() -> None:
    edits, numbers = frames(("a", "s", True, "ok", probes(0.5, 1.0)))
    board = leaderboard(plan({"cell_id": "c2", "label": "two"}), edits, numbers)
    assert board["label"].to_list() == ["one", "two"]
    row = board.row(1, named=True)
    assert (row["mean"], row["ci_low"], row["interval"]) == (None, None, None)
    assert (row["n"], row["asked"], row["failed"], row["missing"]) == (0, 0, 0, 4)
    other = plan({"cell_id": "c2", "label": "two", "dataset": "another"})
    assert leaderboard(other, edits, numbers).height == 1
    nothing = leaderboard(plan(), edits.clear(), numbers.clear())
    assert nothing.height == 0
    assert nothing.columns == board.columns


def test_intervals_where_little_can_be_said() -> None:
    one = np.zeros(3, dtype=np.int64)
    assert interval(np.array([0.5, 0.25, 0.5]), one) == (None, None, None)
    two = np.array([0, 1, 1])
    assert interval(np.array([0.5, 0.5, 0.5]), two) == (0.5, 0.5, "bootstrap")
    low, high, method = interval(np.array([1.0]), np.array([0]))
    assert (round(low or 0, 3), round(high or 0, 3), method) == (0.207, 1.0, "wilson")
    # A divergence that is 0 throughout is no rate of which nothing succeeded.
    assert interval(np.zeros(3), two, may_be_rate=False) == (0.0, 0.0, "bootstrap")


def test_the_bootstrap_draws_subjects_and_gives_the_same_again() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(50), 8)
    values = np.clip(rng.normal(0.5, 0.15, 50)[clusters] + rng.normal(0, 0.02, 400), 0, 1)
    low, high, _ = interval(values, clusters)
    assert (low, high) == interval(values, clusters)[:2]
    means = np.array([values[clusters == c].mean() for c in range(50)])
    expected = 2 * 1.96 * means.std(ddof=1) / math.sqrt(50)
    assert high - low == pytest.approx(expected, rel=0.15)
    alone = interval(values, np.arange(400))
    assert alone.high - alone.low < 0.6 * (high - low)


def test_only_what_the_model_knew() -> None:
    edits, numbers = frames(
        ("a", "s", True, "ok", probes(1.0)),
        ("b", "t", False, "failed", probes(None)),
        ("c", "u", None, "ok", probes(0.0)),
    )
    knew = leaderboard(plan(), edits, numbers, known=True).row(0, named=True)
    assert (knew["mean"], knew["n"], knew["failed"], knew["missing"]) == (1.0, 1, 0, None)
    not_known = leaderboard(plan(), edits, numbers, known=False).row(0, named=True)
    assert (not_known["mean"], not_known["asked"], not_known["failed"]) == (None, 1, 1)


def test_facets_are_rows_of_their_own() -> None:
    edits, numbers = frames(("a", "s", True, "ok", probes(1.0, 0.0)))
    rows = by_facet(plan(), edits, numbers).select("facet", "mean").rows()
    assert rows == [("f0", 1.0), ("f1", 0.0)]


def test_rows_follow_the_plan_the_axes_and_before_after() -> None:
    marks = {
        "x": ("locality", "", "agreement", "post", 1.0),
        "y": ("reliability", "", "em", "post", 1.0),
        "z": ("reliability", "", "em", "pre", 0.0),
        "q": ("zeal", "", "em", "pre", 0.0),
    }
    edits, numbers = frames(("a", "s", True, "ok", marks))
    board = leaderboard(plan(), edits, numbers)
    assert board.select("axis", "phase").rows() == [
        ("reliability", "pre"),
        ("reliability", "post"),
        ("locality", "post"),
        ("zeal", "pre"),
    ]


def test_the_order_of_rows_does_not_show(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    tables = sweep.commit().tables()
    edits, numbers = (pl.DataFrame(tables[kind]) for kind in ("edits", "measurements"))
    board = leaderboard(sweep.plan, edits, numbers)
    for seed in range(3):
        shuffled = [t.sample(fraction=1, shuffle=True, seed=seed) for t in (edits, numbers)]
        assert leaderboard(sweep.plan, *shuffled).equals(board)


def test_the_mean_is_the_plain_mean(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    store = sweep.commit()
    board = leaderboard(
        sweep.plan, pl.DataFrame(store.table("edits")), pl.DataFrame(store.table("measurements"))
    )
    by_edit: dict[str, list[float]] = {}
    cell = sweep.plan["cells"][3]["cell_id"]
    for row in store.table("measurements").to_pylist():
        name = (row["cell_id"], row["axis"], row["metric"], row["phase"])
        if name == (cell, "portability", "token_match", "post"):
            by_edit.setdefault(row["edit_id"], []).append(row["value"])
    expected = sum(sum(v) / len(v) for v in by_edit.values()) / len(by_edit)
    (row,) = board.filter(
        cell_id=cell, axis="portability", metric="token_match", phase="post"
    ).to_dicts()
    assert row["mean"] == pytest.approx(expected, abs=1e-12)
    assert row["n"] == len(by_edit) == 40
    assert row["ci_low"] < row["mean"] < row["ci_high"]


def test_timings_are_means_of_what_was_measured() -> None:
    edits, _ = frames(("a", "s", True, "ok", {}), ("b", "s", True, "ok", {}))
    rows = timings(plan({"cell_id": "c2", "label": "two"}), edits).to_dicts()
    assert [rows[0][name] for name in ("edit_s", "probe_s", "total_s", "edits")] == [1.5, 0.5, 2, 2]
    assert (rows[1]["total_s"], rows[1]["edits"]) == (None, 0)
