"""Recording a sweep of many cells in MLflow, and recording it again. Prints Markdown.

The cells are made up and small, so that what is timed is MLflow. Counts what is there afterwards.
"""

import argparse
import os
import platform
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

from editsweep.bench import servers
from editsweep.core import schema
from editsweep.core.ids import content_id
from editsweep.store import tracking
from editsweep.store.store import SweepStore
from editsweep.store.tracking_client import Runs, mlflow_settings

SWEEP = content_id("a sweep of many cells")
EXPERIMENT = "bench-recording"
AXES = ("reliability", "paraphrase", "reverse", "portability", "locality")


def main() -> None:
    """Run it; `--help` says how much."""
    parser = argparse.ArgumentParser(
        prog="python -m editsweep.bench.recording", description=__doc__
    )
    parser.add_argument("--cells", type=int, default=2000)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--uri", help="a tracking URI; an SQLite file of its own if not given")
    where.add_argument(
        "--postgres",
        action="store_true",
        help="an MLflow server over a PostgreSQL, both made for this (Debian: postgresql)",
    )
    options = parser.parse_args()
    print(f"{platform.machine()}, {options.cells:,} cells\n")
    with ExitStack() as stack:
        draft = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        rows = made_up(draft / "sweep", options.cells)
        uri = options.uri or tracking.default_uri(draft / "sweep")
        if options.postgres:
            database = stack.enter_context(servers.postgres()).uri
            workers = ["--workers", str(os.cpu_count())]
            uri = stack.enter_context(servers.mlflow_server(draft, database, workers))
        measured(draft / "sweep", uri, rows)


def measured(folder: Path, uri: str, rows: list[dict[str, object]]) -> None:
    """Record twice, then count what is there; a run too few, or one twice, ends it with an error."""
    cells = len({row["cell_id"] for row in rows})
    print("| | seconds | ms a cell | runs made |\n|---|---|---|---|")
    for told in ("recorded", "recorded again"):
        start = perf_counter()
        done = tracking.record(folder, uri, EXPERIMENT, rows)
        seconds = perf_counter() - start
        if not done.recorded:
            raise SystemExit(done.reason)
        each = 1000 * seconds / cells
        print(f"| {told} | {seconds:.1f} | {each:.1f} | {done.created:,} |", flush=True)
    with mlflow_settings():
        there = Runs(uri, EXPERIMENT, {"editsweep.sweep_id": SWEEP}).look()
    twice = sum(len(runs) > 1 for runs in there.values())
    whole = sum(
        len(run.data.metrics) == 4 * len(AXES) and run.info.status == "FINISHED"
        for (kind, _), runs in there.items()
        for run in runs[:1]
        if kind == "cell"
    )
    print(f"\n{len(there):,} runs are there, {twice} twice, {whole:,} with all their metrics")
    if (len(there), twice, whole) != (cells + 1, 0, cells):
        raise SystemExit("runs are missing, or there twice")


def made_up(folder: Path, cells: int) -> list[dict[str, object]]:
    """Results of so many cells with one edit each, and their leaderboard."""
    of = {"editor": "made-up", "dataset": "made-up", "split": "all", "dataset_digest": "0"}
    plan = {
        "sweep_id": SWEEP,
        "name": "many",
        "cells": [
            {"cell_id": content_id(i), "label": f"editor {i}", "params": {"layer": i}, **of}
            for i in range(cells)
        ],
        "units": _units(cells),
    }
    with SweepStore(folder).locked() as store:
        store.bind({}, SWEEP)
        store.write_json("plan.json", plan)
        for unit in _units(cells):
            edit = {"sweep_id": SWEEP, **unit, "edit_id": "e", "position": 0, "group": 0}
            edit |= {"prompt": "p", "target_new": "t", "relation": "", "status": "ok"}
            tables = {k: s.empty_table() for k, s in schema.PARTS.items()}
            tables["edits"] = schema.table(schema.EDITS, [edit])
            parts = schema.to_ipc_files(schema.PARTS, [tables])
            store.commit(unit["unit_id"], parts, attempt=1, seconds=0.0, host="")
    about = {"metric": "exact_match", "protocol": "t", "phase": "post"}
    numbers = {"mean": 0.5, "ci_low": 0.25, "ci_high": 0.75, "n": 1}
    return [
        {"cell_id": content_id(i), "axis": axis, **about, **numbers}
        for i in range(cells)
        for axis in AXES
    ]


def _units(cells: int) -> list[dict[str, str]]:
    return [{"unit_id": content_id([i]), "cell_id": content_id(i)} for i in range(cells)]


if __name__ == "__main__":
    main()
