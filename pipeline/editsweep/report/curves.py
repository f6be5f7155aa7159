"""Sequences as curves over the number of edits: what is retained, what is damaged, how far it drifts.

One colour and one number a cell; a cross is the first checkpoint at which the model had collapsed.
"""

from typing import Any, NamedTuple

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from editsweep.report.aggregate import DRIFT
from editsweep.report.chart import PAPER, STYLE, Chart, colour_of, css, inline, tidy
from editsweep.report.columns import LOCALITY, SUCCESS


class _Panel(NamedTuple):
    """One metric in one phase; `begins` is the phase of the unedited model's value, if it has one."""

    title: str
    axis: str
    metric: str
    phase: str
    scale: str = "share"
    begins: str = ""


_Spot = tuple[int, float, float, float]
PANELS = (
    _Panel("Earlier edits still known: exact match", SUCCESS.axis, SUCCESS.metric, "retained"),
    _Panel("Locality of the new edits: agreement", LOCALITY.axis, LOCALITY.metric, "post"),
    _Panel("Perplexity of the fixed text", DRIFT, "perplexity", "post", "log", "pre"),
    _Panel("Norm of the weights' change", DRIFT, "weight_norm", "post", "linear"),
)


def draw(curves: pl.DataFrame) -> Chart | None:
    """The four curves of every sequence; None when there is none.

    Args:
        curves: from `chains.curves`.
    """
    if curves.is_empty():
        return None
    cells = list(curves.select("cell_id", "label").unique(maintain_order=True).iter_rows())
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(9.6, 6.6), dpi=72, layout="constrained")
        FigureCanvasSVG(figure)
        for panel, axes in zip(PANELS, figure.subplots(2, 2, sharex=True).flat, strict=True):
            _frame(axes, panel)
            for index, (cell_id, _) in enumerate(cells):
                _line(axes, panel, curves.filter(pl.col("cell_id") == cell_id), index)
        svg = inline(figure, f"Retention, locality and drift of {len(cells)} sequences")
    return Chart(svg, [(i + 1, css(colour_of(i)), label) for i, (_, label) in enumerate(cells)])


def _frame(axes: Axes, panel: _Panel) -> None:
    axes.set_title(panel.title, loc="left", fontsize=10.5)
    axes.set_xlabel("edits so far")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if panel.scale == "log":
        axes.set_yscale("log")
        for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            ticks(FuncFormatter(lambda value, _: f"{value:g}"))
    if panel.scale == "share":
        axes.set_ylim(-0.03, 1.03)
    tidy(axes)
    axes.tick_params(labelbottom=True)


def _line(axes: Axes, panel: _Panel, rows: pl.DataFrame, index: int) -> None:
    points = _points(panel, rows)
    if not points:
        return
    colour, front = colour_of(index), 10 + index
    x, y, low, high = (list(values) for values in zip(*points, strict=True))
    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.plot(x, y, "-o", color=colour, markersize=3.2, linewidth=1.6, zorder=front)
    mark: dict[str, Any] = {"color": colour, "markeredgecolor": PAPER, "zorder": front}
    axes.plot(x[-1], y[-1], "o", markersize=12.5, **mark)
    text = axes.text(x[-1], y[-1], str(index + 1), ha="center", va="center_baseline")
    text.set(color=PAPER, fontsize=8, fontweight="bold", zorder=front)
    if panel.metric == "perplexity":
        _cross(axes, rows, colour)


def _points(panel: _Panel, rows: pl.DataFrame) -> list[_Spot]:
    """Edits so far, mean and interval (the mean itself where there is none), in order."""
    own = rows.filter(pl.col("axis") == panel.axis, pl.col("metric") == panel.metric)
    found: list[_Spot] = []
    start: _Spot | None = None
    for row in own.filter(pl.col("mean").is_not_null()).sort("edits").iter_rows(named=True):
        mean = row["mean"]
        if row["phase"] == panel.begins and start is None:
            start = (0, mean, mean, mean)
        if row["phase"] == panel.phase:
            low, high = (mean if row[end] is None else row[end] for end in ("ci_low", "ci_high"))
            found.append((row["edits"], mean, low, high))
    return [start, *found] if start else found


def _cross(axes: Axes, rows: pl.DataFrame, colour: str) -> None:
    """At the top of the panel, above the first checkpoint of a collapsed model."""
    gone = rows.filter(pl.col("metric") == "collapsed", pl.col("mean") == 1)["edits"].sort()
    if len(gone):
        place = axes.get_xaxis_transform()
        axes.plot(int(gone[0]), 0.96, "X", color=colour, markersize=9, transform=place, zorder=40)
