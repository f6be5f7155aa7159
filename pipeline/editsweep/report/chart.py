"""Edit success against locality, one colour and one number a cell; and what all charts share.

Colours are CSS variables of the page (`--ink`, `--grid`, `--s0` ..), so the chart follows light,
dark and print. No clock and no random ids go into it: the same numbers give the same bytes.
"""

import io
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from editsweep.report.columns import LOCALITY, PARAPHRASE, SUCCESS, Column

SERIES = 8

# matplotlib wants real colours; these stand for CSS variables and are put back in the SVG.
_INK, SOFT, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {_INK: "--ink", SOFT: "--soft", GRID: "--line", PAPER: "--paper"} | {
    f"#0501{i:02x}": f"--s{i}" for i in range(SERIES)
}
STYLE: Mapping[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "editsweep",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": _INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": _INK,
}


class Chart(NamedTuple):
    """One `<svg>` element, and its key: the number, the CSS colour and the label of each cell."""

    svg: str
    key: list[tuple[int, str, str]]


class _Point(NamedTuple):
    """A mean with its interval; `low` and `high` equal it where there is none."""

    mean: float
    low: float
    high: float


class _Cell(NamedTuple):
    number: int
    label: str
    colour: str
    locality: _Point
    success: _Point
    paraphrase: _Point | None


def success_against_locality(board: pl.DataFrame) -> Chart | None:
    """The chart of a leaderboard; None when no cell has both numbers.

    Circles are reliability and carry the cell's number, triangles are paraphrase, whiskers the
    95 % intervals.
    """
    cells = list(_cells(board))
    if not cells:
        return None
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(7.2, 5.0), dpi=72, layout="constrained")
        FigureCanvasSVG(figure)
        axes = _frame(figure, cells)
        for cell in cells:
            _draw(axes, cell)
        _legend(axes)
        svg = inline(figure, f"Edit success against locality for {len(cells)} cells")
    return Chart(svg, [(cell.number, css(cell.colour), cell.label) for cell in cells])


def colour_of(index: int) -> str:
    """The colour of the series `index`, for matplotlib."""
    return f"#0501{index % SERIES:02x}"


def css(colour: str) -> str:
    """The same colour for the page."""
    return f"var({_VARIABLES[colour]})"


def inline(figure: Figure, name: str) -> str:
    """Only the `<svg>` element, without metadata, with the page's colours and a description."""
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None})
    svg = sink.getvalue()
    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' (?:width|height)="[\d.]+pt"', "", body, count=2)
    body = re.sub(r"font-family: [^;]*; ", "", body)
    for colour in _VARIABLES:
        body = body.replace(colour, css(colour))
    return body.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)


def tidy(axes: Axes) -> None:
    """A faint grid behind, no frame above and to the right, no ticks."""
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", length=0, pad=6)


def _cells(board: pl.DataFrame) -> Iterable[_Cell]:
    after = board.filter(pl.col("phase") == "post", pl.col("mean").is_not_null())
    number = 0
    for cell_id, label in board.select("cell_id", "label").unique(maintain_order=True).iter_rows():
        rows = after.filter(pl.col("cell_id") == cell_id)
        success, locality = _point(rows, SUCCESS), _point(rows, LOCALITY)
        if success and locality:
            colour = colour_of(number)
            number += 1
            yield _Cell(number, label, colour, locality, success, _point(rows, PARAPHRASE))


def _point(rows: pl.DataFrame, column: Column) -> _Point | None:
    found = rows.filter(pl.col("axis") == column.axis, pl.col("metric") == column.metric)
    for row in found.iter_rows(named=True):
        mean = row["mean"]
        low, high = row["ci_low"], row["ci_high"]
        return _Point(mean, mean if low is None else low, mean if high is None else high)
    return None


def _frame(figure: Figure, cells: Iterable[_Cell]) -> Axes:
    """Axes that end at 1 and begin at the tenth below the lowest whisker."""
    axes = figure.add_subplot()
    left = min(cell.locality.low for cell in cells)
    bottom = min(point.low for cell in cells for point in (cell.success, cell.paraphrase) if point)
    for limit, low in ((axes.set_xlim, left), (axes.set_ylim, bottom)):
        start = min(0.9, math.floor(10 * low) / 10)
        limit(start - 0.04 * (1 - start), 1 + 0.04 * (1 - start))
    axes.set_xlabel("Locality: share of unrelated answers that stayed")
    axes.set_ylabel("Edit success: exact match")
    tidy(axes)
    return axes


def _draw(axes: Axes, cell: _Cell) -> None:
    x, y, z = cell.locality, cell.success, cell.paraphrase
    faint: dict[str, Any] = {"color": cell.colour, "linewidth": 1.3, "alpha": 0.55}
    solid: dict[str, Any] = {"color": cell.colour, "markeredgecolor": PAPER}
    axes.plot([x.low, x.high], [y.mean, y.mean], **faint)
    axes.plot([x.mean, x.mean], [y.low, y.high], **faint)
    if z:
        axes.plot([x.mean, x.mean], [y.mean, z.mean], ":", color=cell.colour, linewidth=1.0)
        axes.plot([x.mean, x.mean], [z.low, z.high], **faint)
        axes.plot(x.mean, z.mean, "^", markersize=8.5, **solid)
    front = 10 + cell.number
    axes.plot(x.mean, y.mean, "o", markersize=12.5, zorder=front, **solid)
    number = axes.text(x.mean, y.mean, str(cell.number), ha="center", va="center_baseline")
    number.set(color=PAPER, fontsize=8, fontweight="bold", zorder=front, gid=f"cell-{cell.number}")


def _legend(axes: Axes) -> None:
    marks = [("o", "reliability"), ("^", "paraphrase")]
    handles = [
        Line2D([], [], marker=marker, linestyle="", color=SOFT, markersize=7, label=name)
        for marker, name in marks
    ]
    axes.figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)
