"""The files of a report, made from committed tables only."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from editsweep.core.cells import guarded
from editsweep.errors import StoreError
from editsweep.report.aggregate import timings
from editsweep.report.cases import case_scores
from editsweep.report.chains import curves, has_chains
from editsweep.report.conditions import conditioned
from editsweep.report.html import render


def write_report(folder: Path, tables: Mapping[str, pa.Table]) -> tuple[Path, Path]:
    """Write `report.html` and the tables as CSV into a sweep's folder.

    These are `leaderboard.csv`, the same by facet as `facets.csv`, both also of the edits whose old
    fact the model knew (`-known`) and did not (`-unknown`), `timings.csv`, where there are sequences
    `chains.csv`, and where edits are of cases `cases.csv`.
    The same parts give the same bytes, whatever the order they came in; no clock is read.
    `leaderboard.csv` holds nothing that was timed, so it is also the same after a resumed run.

    Args:
        folder: the sweep's folder, with `plan.json`.
        tables: `edits`, `measurements` and `answers`, e.g. from `SweepStore.tables()`.

    Returns:
        The paths of `leaderboard.csv` and `report.html`.

    Raises:
        StoreError: there is no plan.
    """
    plan = read_plan(folder)
    edits, measurements, answers = (
        _frame(tables[kind]) for kind in ("edits", "measurements", "answers")
    )
    boards = conditioned(plan, edits, measurements)
    along = curves(plan, edits, measurements)
    cases = case_scores(plan, edits, measurements)
    page = render(plan, boards, edits, measurements, answers, along, cases)
    _write(folder / "timings.csv", csv(timings(plan, edits)))
    for name, some in boards.items():
        of = f"-{name}" if name else ""
        _write(folder / f"leaderboard{of}.csv", csv(some.board))
        _write(folder / f"facets{of}.csv", csv(some.facets))
    if has_chains(plan):
        _write(folder / "chains.csv", csv(along))
    if cases.height:
        _write(folder / "cases.csv", csv(cases))
    return folder / "leaderboard.csv", _write(folder / "report.html", page)


def read_plan(folder: Path) -> dict[str, Any]:
    """`plan.json` of a sweep.

    Raises:
        StoreError: the folder holds none.
    """
    path = folder / "plan.json"
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist: is {folder} the folder of a sweep?") from None
    return plan


def csv(frame: pl.DataFrame) -> str:
    """A table as CSV; text that a spreadsheet would run as a formula is led by `'`."""
    safe = frame.with_columns(
        pl.col(name).map_elements(guarded, return_dtype=pl.String)
        for name, kind in frame.schema.items()
        if kind == pl.String
    )
    return safe.write_csv(float_scientific=False)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _write(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path
