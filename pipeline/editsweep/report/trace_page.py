"""The files of a tracing: Arrow tables, pictures, and one page that holds them all."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from editsweep.core import schema
from editsweep.report.html import environment
from editsweep.report.trace_chart import TITLES, effects, heatmap, svg
from editsweep.report.trace_table import ROLE_NAMES, peaks, roles, summary
from editsweep.report.write import csv

TEMPLATE = "report/trace.html.j2"


def write_traces(
    folder: Path, traces: pa.Table, about: Mapping[str, Any], pictures: int
) -> list[str]:
    """Write tables and pictures of all `traces`; heat maps of the first `pictures` facts.

    Args:
        folder: where to.
        traces: rows of `schema.TRACES`.
        about: what was traced, told at the page's head; `window` among it.
        pictures: facts that get a heat map.

    Returns:
        The names of the files, below `folder`.

    Raises:
        ConfigError: the page's template is not found.
    """
    table, told, window = roles(traces), summary(traces), int(about["window"])
    files: dict[str, bytes] = {
        "traces.arrow": schema.to_ipc(traces),
        "roles.arrow": schema.to_ipc(table),
        "roles.csv": csv(_frame(table)).encode(),
        "roles.svg": svg(effects(table, window, int(told["facts"]))).encode(),
    }
    shown = []
    for fact_id in traces["fact_id"].unique().to_pylist()[:pictures]:
        own = traces.filter(pc.equal(traces["fact_id"], fact_id))
        name = f"heatmaps/{fact_id}.svg"
        files[name] = svg(heatmap(own, window)).encode()
        shown.append((own.slice(0, 1).to_pylist()[0], _uri(files[name])))
    page = environment().get_template(TEMPLATE)
    files["trace.html"] = page.render(
        about=about,
        summary=told,
        peaks=peaks(table),
        kinds=TITLES,
        role_names=ROLE_NAMES,
        roles=_uri(files["roles.svg"]),
        shown=shown,
    ).encode()
    (folder / "heatmaps").mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        draft = folder / f"{name}.draft"
        draft.write_bytes(data)
        draft.replace(folder / name)
    return list(files)


def _uri(picture: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(picture).decode()}"


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
