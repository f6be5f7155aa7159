"""The worst failures: which edits, what was asked, what was said."""

from collections.abc import Callable
from typing import Any

import polars as pl

from editsweep.report.failures import DAMAGE, NOT_LEARNT, errors, worst
from editsweep.report.results import among


def tables(sweep: Any) -> list[pl.DataFrame]:
    made = sweep.commit().tables()
    return [pl.DataFrame(made[kind]) for kind in ("edits", "measurements", "answers")]


def test_worst_edits_with_what_was_said(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    edits, numbers, answers = tables(sweep)
    found = worst(sweep.plan, edits, numbers, among(answers), per_cell=2)
    assert found["label"].unique(maintain_order=True).to_list() == ["none", "ft", "rome", "ike"]
    assert found.group_by("label", "kind").len()["len"].max() == 2
    score = {
        (row["cell_id"], row["edit_id"]): row["value"]
        for row in numbers.filter(axis="reliability", metric="exact_match", phase="post").iter_rows(
            named=True
        )
    }
    for row in found.iter_rows(named=True):
        took = score[row["cell_id"], row["edit_id"]]
        assert took == (0 if row["kind"] == NOT_LEARNT else 1)
        assert "{}" not in row["prompt"]
        said = answers.filter(
            cell_id=row["cell_id"], edit_id=row["edit_id"], axis=row["axis"], prompt=row["asked"]
        ).row(0, named=True)
        assert (row["pre_said"], row["post_said"]) == (said["pre_said"], said["post_said"])
        assert row["expected"] == (row["target"] if row["kind"] == NOT_LEARNT else row["pre_said"])


def test_the_worst_come_first(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    edits, numbers, answers = tables(sweep)
    few = worst(sweep.plan, edits, numbers, among(answers), per_cell=2)
    every = worst(sweep.plan, edits, numbers, among(answers), per_cell=1000)
    for kind in (NOT_LEARNT, DAMAGE):
        for label in ("ft", "ike"):
            scores = every.filter(label=label, kind=kind)["score"]
            assert scores.is_sorted()
            assert scores.len() > 2 or kind == NOT_LEARNT
            assert few.filter(label=label, kind=kind)["score"].equals(scores.head(2))


def test_no_measurements_no_failures(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    edits, numbers, answers = tables(sweep)
    assert worst(sweep.plan, edits, numbers.clear(), among(answers)).height == 0
    assert worst(sweep.plan, edits, numbers, among(answers.clear())).height == 0


def test_one_line_a_kind_of_error(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    edits, _, _ = tables(sweep)
    (row,) = errors(sweep.plan, edits).to_dicts()
    assert (row["label"], row["error_kind"], row["edits"]) == ("rome", "not_finite", 1)
    assert row["prompt"] == "Osaka lies in"
    broken = edits.with_columns(
        status=pl.lit("failed"),
        error_kind=pl.when(pl.col("position") % 2 == 0).then(pl.lit("b")).otherwise(pl.lit("a")),
    )
    rows = errors(sweep.plan, broken).select("label", "error_kind", "edits").rows()
    assert rows[:2] == [("none", "a", 20), ("none", "b", 20)]
    assert len(rows) == 8
