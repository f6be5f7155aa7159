"""Recording a sweep of many cells in MLflow, and recording it again. Prints Markdown.

The cells are made up and small, so that what is timed is MLflow. Counts what is there afterwards.
"""

import argparse
import platform
import tempfile
from pathlib import Path
from time import perf_counter

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
    parser.add_argument("--uri", help="a tracking URI; an SQLite file of its own if not given")
    options = parser.parse_args()
    print(f"{platform.machine()}, {options.cells:,} cells\n")
    print("| | seconds | ms a cell | runs made |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as draft:
        folder = Path(draft) / "sweep"
        rows = made_up(folder, options.cells)
        uri = options.uri or tracking.default_uri(folder)
        for told in ("recorded", "recorded again"):
            start = perf_counter()
            done = tracking.record(folder, uri, EXPERIMENT, rows)
            seconds = perf_counter() - start
            if not done.recorded:
                raise SystemExit(done.reason)
            each = 1000 * seconds / options.cells
            print(f"| {told} | {seconds:.1f} | {each:.1f} | {done.created:,} |", flush=True)
        with mlflow_settings():
            there = Runs(uri, EXPERIMENT, {"editsweep.sweep_id": SWEEP}).look()
    twice = sum(len(runs) > 1 for runs in there.values())
    whole = sum(len(run.data.metrics) == 4 * len(AXES) for (run,) in there.values())
    print(f"\n{len(there):,} runs are there, {twice} twice, {whole:,} with all their metrics")


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
