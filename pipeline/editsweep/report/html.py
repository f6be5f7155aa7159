"""The report page: one file, no script, nothing fetched, the same bytes for the same parts."""

import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from editsweep.core import schema
from editsweep.errors import ConfigError
from editsweep.report import failures
from editsweep.report.aggregate import timings
from editsweep.report.chart import success_against_locality
from editsweep.report.columns import AXIS_MEANING, HEADLINE, METRIC_MEANING
from editsweep.report.conditions import Boards
from editsweep.report.curves import draw
from editsweep.report.results import Results
from editsweep.report.statistics import LEVEL, MANY, RESAMPLES
from editsweep.report.view import Number, columns_of, headline

TEMPLATE = "report/report.html.j2"
# Cells of the page's leaderboard, and those shown in detail: with more it would open slowly, and
# nobody would scroll.
LISTED = 250
DETAILED = 25
_LIBRARIES = ("polars", "scipy", "statsmodels", "matplotlib")


def render(results: Results) -> str:
    """The whole page of one sweep.

    Raises:
        ConfigError: the template is not found.
    """
    plan, edits = results.plan, results.edits
    board = results.boards[""].board
    columns = columns_of(board)
    _, rows = headline(board, columns)
    first = {**plan, "cells": plan["cells"][:DETAILED]}
    boards = {
        name: Boards(_of(first, some.board), _of(first, some.facets))
        for name, some in results.boards.items()
    }
    few = boards[""].board
    chart, lines = success_against_locality(few), draw(_of(first, results.along))
    worst = failures.worst(first, edits, results.measurements, results.answers)
    return (
        environment()
        .get_template(TEMPLATE)
        .render(
            plan=plan,
            counts=_counts(plan, edits),
            listed=LISTED,
            detailed=DETAILED,
            varying=_varying(plan["cells"]),
            columns=[(shown.title, shown.column.metric) for shown in columns],
            rows=rows[:LISTED],
            planned={cell["cell_id"]: cell for cell in plan["cells"]},
            seconds={row["cell_id"]: row for row in timings(plan, edits).iter_rows(named=True)},
            chart=chart and {"svg": Markup(chart.svg), "key": chart.key},
            along=lines and {"svg": Markup(lines.svg), "key": lines.key},
            retains=few.filter(pl.col("phase") == "retained").height > 0,
            worst=_by_label(worst),
            errors=failures.errors(first, edits).to_dicts(),
            facets={name: _facets(some.facets) for name, some in boards.items()},
            known=_known(boards),
            full={name: _by_label(_before_after(some.board)) for name, some in boards.items()},
            cases_held=_by_label(_before_after(_of(first, results.cases), "score")),
            meanings=_meanings(board),
            cells=[{**cell, "params": _json(cell.get("params", {}))} for cell in first["cells"]],
            suite=_json(plan.get("suite", {})),
            versions={name: version(name) for name in _LIBRARIES},
            schema_version=schema.VERSION,
            level=round(100 * LEVEL),
            resamples=RESAMPLES,
            many=MANY,
        )
    )


def template_folder() -> Path:
    """The folder `dashboards`: `EDITSWEEP_DASHBOARDS`, the repository's, or the wheel's own copy.

    Raises:
        ConfigError: none of them holds the template.
    """
    package = Path(__file__).resolve().parents[1]
    given = os.environ.get("EDITSWEEP_DASHBOARDS")
    places = [Path(given)] if given else []
    places += [package.parents[1] / "dashboards", package / "_dashboards"]
    for place in places:
        if (place / TEMPLATE).is_file():
            return place
    looked = ", ".join(map(str, places))
    raise ConfigError(
        f"no {TEMPLATE} in {looked}; set EDITSWEEP_DASHBOARDS to the folder that holds it"
    )


def environment() -> Environment:
    """Templates as we write them: escaped, and a missing value is an error."""
    return Environment(
        loader=FileSystemLoader(template_folder()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _of(plan: Mapping[str, Any], frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a plan's cells."""
    return frame.filter(pl.col("cell_id").is_in([cell["cell_id"] for cell in plan["cells"]]))


def _counts(plan: Mapping[str, Any], edits: pl.DataFrame) -> Mapping[str, int]:
    cells = plan["cells"]
    planned = sum(cell["edits"] for cell in cells)
    return {
        "cells": len(cells),
        "models": len({cell["model"] for cell in cells}),
        "datasets": len({(cell["dataset"], cell["split"]) for cell in cells}),
        "planned": planned,
        "recorded": edits.height,
        "missing": planned - edits.height,
        "failed": edits.filter(pl.col("status") == "failed").height,
    }


def _varying(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fields that tell cells apart, so that only these stand below a label."""
    fields = ("model", "dataset", "split", "regime", "seed")
    return [name for name in fields if len({str(cell[name]) for cell in cells}) > 1]


def _by_label(frame: pl.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
    rows = groupby(frame.iter_rows(named=True), key=lambda row: (row["cell_id"], row["label"]))
    return [(label, list(group)) for (_, label), group in rows]


def _before_after(board: pl.DataFrame, *further: str) -> pl.DataFrame:
    """Both phases of a metric in one row, as structs `pre` and `post`; `further` tells rows apart."""
    key = ["cell_id", "label", *further, "axis", "metric", "protocol"]
    numbers = pl.struct("mean", "ci_low", "ci_high", "interval", "n")
    return board.group_by(key, maintain_order=True).agg(
        pre=numbers.filter(pl.col("phase") == "pre").first(),
        post=numbers.filter(pl.col("phase") == "post").first(),
        retained=numbers.filter(pl.col("phase") == "retained").first(),
        asked=pl.col("asked").max(),
    )


def _facets(board: pl.DataFrame) -> Mapping[str, Any]:
    """Rows axis and facet, columns cells, for the headline's metrics after the edit."""
    cells = board.select("cell_id", "label").unique(keep="first", maintain_order=True)
    rows: dict[tuple[str, ...], dict[str, Number]] = {}
    for column in HEADLINE:
        chosen = board.filter(
            pl.col("axis") == column.axis,
            pl.col("metric") == column.metric,
            pl.col("phase") == "post",
        ).sort("facet", maintain_order=True)
        for row in chosen.iter_rows(named=True):
            key = (column.title, row["facet"], column.metric, row["protocol"])
            rows.setdefault(key, {})[row["cell_id"]] = Number.of(row)
    return {
        "labels": cells["label"].to_list(),
        "rows": [
            (key, [found.get(cell_id, Number()) for cell_id in cells["cell_id"]])
            for key, found in rows.items()
        ],
    }


def _known(boards: Mapping[str, Boards]) -> list[tuple[str, Any, Any]]:
    """Label, headline row over known facts, headline row over unknown ones, for each cell."""
    if "known" not in boards:
        return []
    columns = columns_of(boards[""].board)
    yes, no = (
        {row.cell["cell_id"]: row for row in headline(boards[name].board, columns)[1]}
        for name in ("known", "unknown")
    )
    return [(row.cell["label"], row, no[cell_id]) for cell_id, row in yes.items() if cell_id in no]


def _meanings(board: pl.DataFrame) -> Mapping[str, list[tuple[str, str]]]:
    """The lines about axes and metrics that occur; a name we do not know has none."""
    axes, metrics = set(board["axis"]), set(board["metric"])
    return {
        "axes": [(name, text) for name, text in AXIS_MEANING.items() if name in axes],
        "metrics": [(name, text) for name, text in METRIC_MEANING.items() if name in metrics],
    }


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
