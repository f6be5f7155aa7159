"""The index of sweeps in MLflow.

The parts on disk are the record. What is written here can be written again at any time: runs are
found by their tags before they are made, and every timestamp comes from the manifest, so a second
recording changes nothing and one after more units brings the numbers up to date.
"""

import csv
import hashlib
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from editsweep.core import schema
from editsweep.core.cells import guarded
from editsweep.core.ids import content_id
from editsweep.core.names import flat
from editsweep.core.scrub import scrubbed
from editsweep.errors import ConfigError, StoreError
from editsweep.store.chains import ChainFiles
from editsweep.store.manifest import Line
from editsweep.store.store import SweepStore
from editsweep.store.tracking_client import (
    VERSION,
    Content,
    Point,
    RecordResult,
    Runs,
    Wanted,
    artifact_home,
    metric_name,
    tried,
)

PREVIEW_ROWS = 500
# Bytes; a larger edited model stays where it is, and a tag says where that is.
LARGEST_ARTIFACT = 200 * 10**6

_SWEEP_FILES = (
    "report.html",
    "leaderboard.csv",
    "leaderboard-known.csv",
    "leaderboard-unknown.csv",
    "facets.csv",
    "facets-known.csv",
    "facets-unknown.csv",
    "timings.csv",
    "chains.csv",
    "cases.csv",
    "sweep.lock.yaml",
    "plan.json",
)
_AXES = (
    "model",
    "model_revision",
    "trust_remote_code",
    "editor",
    "dataset",
    "split",
    "regime",
    "seed",
    "edits",
)


def record(
    folder: Path,
    tracking_uri: str | None,
    experiment: str,
    rows: Sequence[Mapping[str, Any]],
    along: Sequence[Mapping[str, Any]] = (),
) -> RecordResult:
    """Bring a sweep's runs in MLflow up to date: one for the sweep, below it one a cell.

    Args:
        folder: the sweep's folder, with `plan.json` and committed parts.
        tracking_uri: any MLflow tracking URI; None is `default_uri(folder)`.
        experiment: the experiment's name; made if absent.
        rows: the leaderboard in long form, one mapping a row.
        along: the sequences checkpoint by checkpoint, one mapping a row.

    Returns:
        What was recorded. A server that is down or refuses is not an error of the sweep: the
        result says so, and the same call later makes up for it.

    Raises:
        StoreError: the folder itself cannot be read.
    """
    uri = default_uri(folder) if tracking_uri is None else tracking_uri
    sweep = _Sweep.read(folder, rows, along)
    return tried(uri, lambda: _Recorder(uri, experiment, sweep).run())


def default_uri(folder: Path) -> str:
    """The SQLite store beside the sweep folders."""
    return f"sqlite:///{folder.resolve().parent / 'mlflow.db'}"


def ui_command(tracking_uri: str, port: int) -> list[str]:
    """The command line that serves MLflow's pages on this machine only, until it is ended.

    Raises:
        ConfigError: the URI is a server's, which has its own pages.
    """
    if urlsplit(tracking_uri).scheme in ("http", "https"):
        raise ConfigError(f"{scrubbed(tracking_uri)} is a server: open it in a browser")
    home = artifact_home(tracking_uri)
    return [
        *("env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "MLFLOW_DISABLE_TELEMETRY=true"),
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--backend-store-uri", tracking_uri),
        *(("--default-artifact-root", home) if home else ()),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]


@dataclass(frozen=True)
class _Sweep:
    """What is written to MLflow; the tables of a cell are read when it is that cell's turn."""

    folder: Path
    plan: Mapping[str, Any]
    store: SweepStore
    lines: Mapping[str, Line]
    rows: Sequence[Mapping[str, Any]]
    along: Sequence[Mapping[str, Any]]

    @classmethod
    def read(
        cls,
        folder: Path,
        rows: Sequence[Mapping[str, Any]],
        along: Sequence[Mapping[str, Any]],
    ) -> "_Sweep":
        store = SweepStore(folder)
        try:
            plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"{folder} has no plan.json: is it the folder of a sweep?") from None
        return cls(folder, plan, store, store.committed(), rows, along)

    def time(self, unit_id: str) -> int:
        """When a unit was committed, in ms since 1970."""
        committed = datetime.fromisoformat(self.lines[unit_id].committed_at)
        return round(1000 * committed.timestamp())

    def span(self, units: Sequence[Mapping[str, Any]]) -> tuple[int, int, bool]:
        """First and last commit of these units in ms since 1970, and whether all are there."""
        found = [self.time(u["unit_id"]) for u in units if u["unit_id"] in self.lines]
        complete = len(found) == len(units)
        return (min(found), max(found), complete) if found else (0, 0, complete)


class _Recorder:
    def __init__(self, uri: str, experiment: str, sweep: _Sweep) -> None:
        self.sweep = sweep
        self.sweep_id = str(sweep.plan["sweep_id"])
        self.runs = Runs(uri, experiment, {"editsweep.sweep_id": self.sweep_id})
        self.units = _by_cell(sweep.plan["units"])
        self.rows = _by_cell(sweep.rows)
        self.along = _by_cell(sweep.along)

    def run(self) -> RecordResult:
        above = self._above()
        wanted = [above, *(self._cell(cell, above) for cell in self.sweep.plan["cells"])]
        there = self.runs.bring(wanted)
        uri, run_id = scrubbed(self.runs.uri), str(there[above.who].info.run_id)
        return RecordResult(True, uri, "", run_id, *self.runs.counted(wanted))

    def _above(self) -> Wanted:
        """The run of the sweep itself."""
        folder, plan = self.sweep.folder, self.sweep.plan
        files = [name for name in _SWEEP_FILES if (folder / name).exists()]
        sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
        start, end, complete = self.sweep.span(plan["units"])
        content = content_id([VERSION, sums, complete])

        def fill(_: Any, draft: Path) -> Content:
            for name in files:
                shutil.copyfile(folder / name, draft / name)
            return Content()

        name = str(plan["name"])
        times = start or None, end or None
        return Wanted("sweep", self.sweep_id, name, content, fill, *times, complete)

    def _cell(self, cell: Mapping[str, Any], above: Wanted) -> Wanted:
        """The run of a cell, which is below that of the sweep."""
        cell_id, label = str(cell["cell_id"]), str(cell["label"])
        units = self.units.get(cell_id, [])
        start, end, complete = self.sweep.span(units)
        content, fill = self._content(cell, units), partial(self._fill, cell, end)
        times = start or None, end or None
        return Wanted("cell", cell_id, label, content, fill, *times, complete, above.who)

    def _fill(self, cell: Mapping[str, Any], end: int, run: Any, draft: Path) -> Content:
        cell_id = str(cell["cell_id"])
        values = {axis: cell[axis] for axis in _AXES if axis in cell}
        values |= {f"editor.{k}": value for k, value in flat(cell.get("params", {})).items()}
        values |= flat({key: cell[key] for key in ("restrain",) if key in cell})
        named = metrics(self.rows.get(cell_id, []))
        points = [Point(name, value, end) for name, value in named.items()]
        self._files(draft, cell_id)
        tags = self._edited_model(draft, cell_id)
        data = f"{cell['dataset']}:{cell['split']}", str(cell["dataset_digest"]), "evaluation"
        return Content(values, points + self._curves(cell_id), tags, data)

    def _content(self, cell: Mapping[str, Any], units: Sequence[Mapping[str, Any]]) -> str:
        """The content id of all that is written to a cell's run."""
        cell_id = str(cell["cell_id"])
        kept = [self.sweep.lines[u["unit_id"]] for u in units if u["unit_id"] in self.sweep.lines]
        files = [
            [line.unit_id, {k: file.sha256 for k, file in line.files.items()}] for line in kept
        ]
        rows = [self.rows.get(cell_id, []), self.along.get(cell_id, [])]
        return content_id([VERSION, LARGEST_ARTIFACT, cell, len(units), files, repr(rows)])

    def _curves(self, cell_id: str) -> list[Point]:
        """A sequence's numbers over the edits so far."""
        rows: dict[str, list[Mapping[str, Any]]] = {}
        for row in self.along.get(cell_id, []):
            rows.setdefault(row["unit_id"], []).append(row)
        return [
            Point(f"along.{name}", value, self.sweep.time(unit_id), int(own[0]["edits"]))
            for unit_id, own in rows.items()
            for name, value in metrics(own).items()
        ]

    def _edited_model(self, draft: Path, cell_id: str) -> dict[str, str]:
        """The file that holds a sequence's edited model, or a tag with its path if it is large."""
        files = ChainFiles(self.sweep.folder)
        units = [str(unit["unit_id"]) for unit in self.units.get(cell_id, [])]
        path = next((p for u in reversed(units) if (p := files.path(cell_id, u))), None)
        if path is None:
            return {}
        if path.stat().st_size > LARGEST_ARTIFACT:
            return {"editsweep.edited_model": str(path.resolve())}
        (draft / "edited_model").mkdir()
        shutil.copyfile(path, draft / "edited_model" / "patch.safetensors")
        return {}

    def _files(self, draft: Path, cell_id: str) -> None:
        (draft / "results").mkdir()
        (draft / "preview").mkdir()
        units = [str(unit["unit_id"]) for unit in self.units.get(cell_id, [])]
        kept = [unit for unit in units if unit in self.sweep.lines]
        for kind, own in self.sweep.store.tables(kept).items():
            (draft / "results" / f"{kind}.arrow").write_bytes(schema.to_ipc(own))
            if kind == "answers":
                _preview(draft / "preview" / "answers.csv", own.slice(0, PREVIEW_ROWS))


def _by_cell(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row["cell_id"]), []).append(row)
    return found


def metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """MLflow's names and values for one cell's leaderboard rows.

    `<axis>.<metric>` after the edit, with `.ci_low`, `.ci_high` and `.n`, and the same under
    `pre.` and `retained.`. A metric with several protocols on an axis has the protocol behind its name. What is
    null or not finite is left out.
    """
    protocols: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        protocols.setdefault((row["axis"], row["metric"]), set()).add(row["protocol"])
    named: dict[str, float] = {}
    for row in rows:
        name = f"{row['axis']}.{row['metric']}"
        if len(protocols[row["axis"], row["metric"]]) > 1:
            name += f".{row['protocol']}"
        if row["phase"] != "post":
            name = f"{row['phase']}.{name}"
        values = {"": "mean", ".ci_low": "ci_low", ".ci_high": "ci_high", ".n": "n"}
        for suffix, column in values.items():
            if row[column] is not None and math.isfinite(row[column]):
                named[metric_name(name + suffix)] = float(row[column])
    return named


def _preview(path: Path, answers: pa.Table) -> None:
    """A CSV that MLflow's viewer shows: what was asked, expected and said."""
    names = ("axis", "facet", "prompt", "role", "text", "pre_said", "post_said", "edit_id")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in answers.select(names).to_pylist():
            writer.writerow([guarded(row[name] or "") for name in names])
