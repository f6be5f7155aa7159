"""The report of a large sweep: seconds and memory of `editsweep report`, and of opening its page.

The rows of one real unit (16 edits of a tiny model) are kept again and again under other ids, 64
edits a unit, as cells that share their edits. Prints Markdown; the page is opened where Chromium is.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl
import pyarrow as pa

from editsweep.bench.commits import real_parts
from editsweep.core import schema
from editsweep.core.ids import content_id
from editsweep.run import publish
from editsweep.run.layout import cores
from editsweep.store.store import Done, SweepStore

SWEEP = content_id("a sweep of many rows")
TIMES = 4


def main() -> None:
    """Run it; `--help` says how much."""
    parser = argparse.ArgumentParser(prog="python -m editsweep.bench.tables", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="measurements")
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="make the sweep here, or use the one made before")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as draft:
        folder = options.keep or Path(draft) / "sweep"
        if not (folder / "plan.json").exists():
            made_up(folder, options.cells, options.rows, Path(draft) / "unit")
        rows = sum(
            line.files["measurements"].rows for line in SweepStore(folder).committed().values()
        )
        print(
            f"{cores()} cores, {platform.machine()}: {rows:,} measurements, {options.cells} cells\n"
        )
        print("| what | seconds | peak GB |\n|---|---|---|")
        for what, seconds in apart(folder):
            print(f"| {what} | {seconds:.1f} | |", flush=True)
        seconds, peak = timed("report", str(folder))
        print(f"| the whole of `editsweep report` | {seconds:.1f} | {peak:.2f} |", flush=True)
        page = folder / "report.html"
        print(f"| opening its page ({page.stat().st_size / 1e6:.1f} MB) | {opened(page)} | |")


def apart(folder: Path) -> Iterator[tuple[str, float]]:
    """Seconds of reading what is committed, and of aggregating it: six tables with intervals."""
    start = perf_counter()
    results = publish.results_of(folder)
    yield "reading", perf_counter() - start
    start = perf_counter()
    tables = len(results.boards)
    yield f"aggregating, {tables} boards and as many by facet", perf_counter() - start


def timed(*command: str) -> tuple[float, float]:
    """Seconds and peak GB of an `editsweep` command in a process of its own.

    Raises:
        CalledProcessError: it failed.
    """
    start = perf_counter()
    arguments = [str(Path(sys.executable).with_name("editsweep")), *command]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return perf_counter() - start, usage.ru_maxrss / 2**20


def opened(page: Path) -> str:
    """Seconds until Chromium has loaded a page and drawn it once, or why that was not tried."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return "no playwright"
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
            )
        except Error:
            return "no Chromium"
        tab = browser.new_page()
        start = perf_counter()
        tab.goto(page.as_uri(), wait_until="load")
        tab.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        seconds = perf_counter() - start
        browser.close()
    return f"{seconds:.2f}"


def made_up(folder: Path, cells: int, rows: int, draft: Path) -> None:
    """A committed sweep of about so many measurements."""
    tables = {kind: schema.from_ipc(part) for kind, part in real_parts(draft).items()}
    units = max(1, round(rows / cells / TIMES / tables["measurements"].num_rows))
    plan = json.loads((draft / "plan.json").read_text(encoding="utf-8"))
    (cell,) = plan["cells"]
    edits = cell["edits"] * TIMES
    plan |= {
        "sweep_id": SWEEP,
        "name": "many rows",
        "units": [],
        "cells": [
            {
                **cell,
                "cell_id": content_id(f"cell {number}"),
                "label": f"editor {number}",
                "editor": f"editor {number}",
                "edits": units * edits,
            }
            for number in range(cells)
        ],
    }
    with SweepStore(folder).locked() as store:
        store.bind({}, SWEEP)
        store.write_json("plan.json", plan)
        for number in range(units):
            store.commit_all(list(_units(tables, plan["cells"], number)))


def _units(
    tables: Mapping[str, pa.Table], cells: list[dict[str, Any]], number: int
) -> Iterator[Done]:
    """Unit `number` of each cell."""
    times = range(number * TIMES, (number + 1) * TIMES)
    fresh = {
        kind: pl.concat([_renamed(table, time) for time in times], rechunk=True)
        for kind, table in tables.items()
    }
    for cell in cells:
        unit_id = content_id([cell["cell_id"], number])
        own = {"sweep_id": SWEEP, "cell_id": cell["cell_id"], "unit_id": unit_id}
        parts = {
            kind: schema.to_ipc(
                frame.with_columns(pl.lit(v).alias(k) for k, v in own.items())
                .to_arrow()
                .combine_chunks()
                .cast(schema.PARTS[kind])
            )
            for kind, frame in fresh.items()
        }
        yield Done(unit_id, parts, 1, 1.0, "h")


def _renamed(table: pa.Table, number: int) -> pl.DataFrame:
    """The rows with edits, probes and subjects of their own, and other places in the slice."""
    frame = pl.DataFrame(table)
    names = [name for name in ("edit_id", "probe_id") if name in frame.columns]
    renamed: dict[str, pl.Expr] = {
        name: pl.col(name).replace_strict(
            {old: content_id([old, number]) for old in frame[name].unique()}
        )
        for name in names
    }
    if "position" in frame.columns:
        renamed |= {name: pl.col(name) + number * table.num_rows for name in ("position", "group")}
        renamed["subject"] = pl.col("subject") + f" {number}"
    return frame.with_columns(**renamed)


if __name__ == "__main__":
    main()
