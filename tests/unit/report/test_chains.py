"""Sequences in tables and curves: the last checkpoint in the one, every checkpoint in the other."""

import re
from typing import Any

import polars as pl
import pytest

from editsweep.core import schema
from editsweep.report.aggregate import leaderboard
from editsweep.report.chains import curves, has_chains
from editsweep.report.curves import draw
from editsweep.report.results import Results
from editsweep.report.write import write_report

CELL = {
    "model": "m",
    "editor": "e",
    "params": {},
    "model_revision": "r",
    "dataset": "d",
    "dataset_digest": "x",
    "split": "test",
    "seed": 0,
    "edits": 4,
}
CHAIN = CELL | {"cell_id": "c1", "label": "rome", "regime": "sequential:1/2"}
SINGLE = CELL | {"cell_id": "c2", "label": "none", "regime": "single"}
PLAN = {"name": "n", "sweep_id": "s", "code": "1", "cells": [CHAIN, SINGLE], "units": []}


def number(unit: str, edit: int, axis: str, metric: str, phase: str, value: Any) -> dict[str, Any]:
    return {
        "sweep_id": "s",
        "cell_id": "c2" if unit == "single" else "c1",
        "unit_id": unit,
        "edit_id": f"e{edit}",
        "probe_id": f"{axis}{edit}",
        "axis": axis,
        "facet": "",
        "metric": metric,
        "protocol": "t",
        "phase": phase,
        "value": value,
        "status": "ok" if value is not None else "not_finite",
    }


def frames(collapsed: float = 0.0) -> dict[str, pl.DataFrame]:
    """Four edits in two checkpoints of a sequence, `z` then `a`, and the same in a single cell."""
    edits, numbers = [], []
    for unit, places in (("z", (0, 1)), ("a", (2, 3)), ("single", (0, 1, 2, 3))):
        for place in places:
            keys = {k: number(unit, place, "", "", "", 0)[k] for k in ("sweep_id", "cell_id")}
            edits.append(
                keys
                | {"unit_id": unit, "edit_id": f"e{place}", "position": place, "group": place}
                | {"subject": f"s{place}", "prompt": "{} is", "target_new": "t", "relation": ""}
                | {"status": "ok", "edit_s": 1.0, "probe_s": 1.0}
            )
            numbers.append(number(unit, place, "reliability", "exact_match", "post", 1.0))
            numbers.append(number(unit, place, "locality", "agreement", "post", 0.5))
    numbers += [
        number("z", 0, "reliability", "exact_match", "retained", 1.0),
        number("a", 0, "reliability", "exact_match", "retained", 0.0),
        number("a", 1, "reliability", "exact_match", "retained", 1.0),
    ]
    for unit, last, after in (("z", 1, 12.0), ("a", 3, None if collapsed else 14.0)):
        numbers += [
            number(unit, last, "drift", "perplexity", "pre", 10.0),
            number(unit, last, "drift", "perplexity", "post", after),
            number(unit, last, "drift", "weight_norm", "post", float(last)),
            number(unit, last, "drift", "collapsed", "post", collapsed if unit == "a" else 0.0),
        ]
    rows = {"edits": edits, "measurements": numbers, "answers": []}
    return {k: pl.DataFrame(schema.table(schema.PARTS[k], made)) for k, made in rows.items()}


def mean(board: pl.DataFrame, **where: str) -> Any:
    (row,) = board.filter(*(pl.col(k) == v for k, v in where.items())).iter_rows(named=True)
    return row["mean"], row["n"]


def test_the_leaderboard_shows_a_sequence_as_it_ended() -> None:
    made = frames()
    board = leaderboard(PLAN, made["edits"], made["measurements"])
    chain = board.filter(pl.col("cell_id") == "c1")
    assert mean(chain, axis="reliability", phase="retained") == (0.5, 2)
    assert mean(chain, axis="reliability", phase="post") == (1.0, 4)
    assert mean(chain, metric="weight_norm") == (3.0, 1)
    drift = chain.filter(pl.col("axis") == "drift")
    assert drift["ci_low"].null_count() == drift["interval"].null_count() == drift.height


def test_a_cell_of_another_regime_has_no_rows_of_a_sequence() -> None:
    made = frames()
    board = leaderboard(PLAN, made["edits"], made["measurements"])
    single = board.filter(pl.col("cell_id") == "c2")
    assert set(single["phase"]) == {"post"}
    assert "drift" not in set(single["axis"])


def test_curves_have_every_checkpoint() -> None:
    made = frames()
    found = curves(PLAN, made["edits"], made["measurements"])
    assert set(found["cell_id"]) == {"c1"}
    kept = found.filter(pl.col("phase") == "retained")
    assert kept.select("edits", "unit_id", "mean", "n").rows() == [
        (2, "z", 1.0, 1),
        (4, "a", 0.5, 2),
    ]
    norms = found.filter(pl.col("metric") == "weight_norm")
    assert norms.select("edits", "mean").rows() == [(2, 1.0), (4, 3.0)]
    assert has_chains(PLAN)


def test_without_sequences_there_is_nothing() -> None:
    made = frames()
    plan = PLAN | {"cells": [SINGLE]}
    own = {k: frame.filter(pl.col("cell_id") == "c2") for k, frame in made.items()}
    found = curves(plan, own["edits"], own["measurements"])
    assert found.is_empty()
    assert draw(found) is None
    assert not has_chains(plan)


@pytest.mark.parametrize("collapsed", [0.0, 1.0])
def test_the_page_has_the_curves_and_a_cross_where_the_model_collapsed(
    tmp_path: Any, collapsed: float
) -> None:
    made = frames(collapsed)
    tables = {k: frame.to_arrow() for k, frame in made.items()}
    write_report(tmp_path, Results.of(PLAN, tables))
    first = (tmp_path / "report.html").read_bytes()
    write_report(tmp_path, Results.of(PLAN, tables))
    assert (tmp_path / "report.html").read_bytes() == first
    page = first.decode()
    assert "Along a sequence" in page
    assert "Retained<small>" in page
    chart = draw(curves(PLAN, made["edits"], made["measurements"]))
    assert chart is not None
    plain = draw(curves(PLAN, frames()["edits"], frames()["measurements"]))
    assert plain is not None
    assert (chart.svg == plain.svg) is not bool(collapsed)
    assert chart.key == [(1, "var(--s0)", "rome")]
    assert not re.search(r"#0[1-5]0[1-5]0", chart.svg)
    assert (tmp_path / "chains.csv").read_text().startswith("cell_id,label")


def test_categorical_measurements_give_the_same() -> None:
    made = frames()
    coded = made["measurements"].with_columns(pl.col(pl.String).cast(pl.Categorical))
    for table in (curves, leaderboard):
        plain = table(PLAN, made["edits"], made["measurements"])
        assert plain.height
        assert plain.equals(table(PLAN, made["edits"], coded))
