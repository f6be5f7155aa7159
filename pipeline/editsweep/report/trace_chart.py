"""Pictures of causal tracing: a heat map a fact, and the averaged indirect effect by token role.

The colours are the published ones: purple for hidden states, green for MLPs, red for attention.
The same numbers give the same bytes.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from editsweep.report.trace_table import ROLE_NAMES

TITLES = {"state": "hidden state", "mlp": "MLP", "attention": "attention"}
_MAPS = {"state": "Purples", "mlp": "Greens", "attention": "Reds"}
# Colours that differ in print and for every kind of sight; the two sites of interest stand out.
_COLOURS = {
    "first_subject": "#8fa3b5",
    "middle_subject": "#c3a26b",
    "last_subject": "#5b3a9b",
    "first_after": "#7fb3a6",
    "further": "#b9b9b9",
    "last": "#c8401e",
}
_STYLE: Mapping[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "editsweep",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.edgecolor": "#5a646e",
    "xtick.color": "#1a1e23",
    "ytick.color": "#1a1e23",
}
_ROW, _PANEL = 0.21, 3.2


def heatmap(fact: pa.Table, window: int) -> Figure:
    """One fact's rows of `schema.TRACES`: tokens down, the subject's starred, layers across.

    The colour begins at the corrupted probability, so what is pale restored nothing.
    """
    kinds = [kind for kind in TITLES if pc.any(pc.equal(fact["kind"], kind)).as_py()]
    first = fact.slice(0, 1).to_pylist()[0]
    tokens = len(fact["token_index"].unique())
    size = (1.1 + _PANEL * len(kinds), 1.35 + _ROW * tokens)
    with _style():
        figure = Figure(figsize=size, dpi=72, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            _panel(axes, fact.filter(pc.equal(fact["kind"], kind)), kind, window)
        said = _shown(first["answer"]).strip()
        title = figure.suptitle(
            f"p({said}): {first['clean']:.3f} clean, {first['low']:.3f} corrupted", fontsize=10
        )
        title.set_parse_math(False)
        figure.canvas.draw()
    return figure


def effects(table: pa.Table, window: int, facts: int) -> Figure:
    """Rows of `schema.ROLES`: one panel a kind, one line a role, its 95 % interval as a band."""
    kinds = [kind for kind in TITLES if pc.any(pc.equal(table["kind"], kind)).as_py()]
    with _style():
        figure = Figure(figsize=(1.0 + _PANEL * len(kinds), 3.5), dpi=72, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            _lines(axes, table.filter(pc.equal(table["kind"], kind)).to_pylist())
            axes.set_title(_named(kind, window), fontsize=10)
            axes.set_xlabel("layer")
        panels[0].set_ylabel("averaged indirect effect")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(f"mean over {facts} fact{'' if facts == 1 else 's'}", fontsize=10)
        figure.canvas.draw()
    return figure


def svg(figure: Figure) -> str:
    """The picture as an SVG document."""
    sink = io.StringIO()
    with _style():
        figure.savefig(sink, format="svg", metadata={"Date": None})
    return sink.getvalue()


def png(figure: Figure, dpi: int = 144) -> bytes:
    """The picture as a PNG file."""
    sink = io.BytesIO()
    with _style():
        figure.savefig(sink, format="png", dpi=dpi, metadata={"Software": None})
    return sink.getvalue()


def _panel(axes: Axes, rows: pa.Table, kind: str, window: int) -> None:
    places = sorted(rows["token_index"].unique().to_pylist())
    layers = sorted(rows["layer"].unique().to_pylist())
    grid = [[0.0] * len(layers) for _ in places]
    names = [""] * len(places)
    low = rows["low"][0].as_py()
    for row in rows.to_pylist():
        place = places.index(row["token_index"])
        grid[place][layers.index(row["layer"])] = row["probability"]
        star = "*" if row["role"].endswith("_subject") else ""
        names[place] = _shown(row["token"]) + star
    high = max(max(line) for line in grid)
    image = axes.imshow(
        grid,
        cmap=_MAPS[kind],
        vmin=low,
        vmax=high if high > low else low + 1e-6,
        aspect="auto",
        interpolation="nearest",
        extent=(layers[0] - 0.5, layers[-1] + 0.5, len(places) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(places)))
    for label in axes.set_yticklabels(names):
        label.set_parse_math(False)
    axes.tick_params(length=0, pad=4)
    axes.set_xlabel("layer")
    axes.set_title(_named(kind, window), fontsize=10)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, fraction=0.06)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7.5)


def _lines(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for role, name in ROLE_NAMES.items():
        own = [row for row in rows if row["role"] == role]
        if not own:
            continue
        layers, means = ([row[key] for row in own] for key in ("layer", "effect"))
        front = 3 if role in ("last_subject", "last") else 2
        colour = _COLOURS[role]
        axes.plot(layers, means, color=colour, linewidth=1.6, label=name, zorder=front)
        if own[0]["ci_low"] is not None:
            low, high = ([row[key] for row in own] for key in ("ci_low", "ci_high"))
            axes.fill_between(layers, low, high, color=colour, alpha=0.16, linewidth=0)
    axes.axhline(0, color="#5a646e", linewidth=0.6, zorder=1)
    axes.grid(axis="y", color="#e2e6ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0, pad=4)


def _named(kind: str, window: int) -> str:
    around = "" if kind == "state" or window == 1 else f", windows of {window} layers"
    return f"{TITLES[kind]} restored{around}"


def _shown(token: str) -> str:
    """A token on one line."""
    return token.strip(" ").replace("\n", "⏎").replace("\t", "⇥") or "␣"


@contextmanager
def _style() -> Iterator[None]:
    """Our settings; a glyph that the font lacks is the viewer's to draw."""
    with mpl.rc_context(dict(_STYLE)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
