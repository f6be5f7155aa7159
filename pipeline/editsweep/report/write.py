"""The files of a report, made from committed tables only."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from editsweep.core.cells import guarded
from editsweep.errors import StoreError
from editsweep.report.aggregate import timings
from editsweep.report.chains import has_chains
from editsweep.report.html import render
from editsweep.report.results import Results


def write_report(folder: Path, results: Results) -> tuple[Path, Path]:
    """Write `report.html` and the tables as CSV into a sweep's folder.

    These are `leaderboard.csv`, the same by facet as `facets.csv`, both also of the edits whose old
    fact the model knew (`-known`) and did not (`-unknown`), `timings.csv`, where there are sequences
    `chains.csv`, and where edits are of cases `cases.csv`.
    The same parts give the same bytes, whatever the order they came in; no clock is read.
    `leaderboard.csv` holds nothing that was timed, so it is also the same after a resumed run.

    Returns:
        The paths of `leaderboard.csv` and `report.html`.
    """
    page = render(results)
    _write(folder / "timings.csv", csv(timings(results.plan, results.edits)))
    for name, some in results.boards.items():
        of = f"-{name}" if name else ""
        _write(folder / f"leaderboard{of}.csv", csv(some.board))
        _write(folder / f"facets{of}.csv", csv(some.facets))
    if has_chains(results.plan):
        _write(folder / "chains.csv", csv(results.along))
    if results.cases.height:
        _write(folder / "cases.csv", csv(results.cases))
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


def _write(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
    return path
