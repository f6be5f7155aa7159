"""The index of a sweep in MLflow; the only file that imports mlflow.

The parts on disk are the record. What is written here can be written again at any time: runs are
found by their tags before they are made, and every timestamp comes from the manifest, so a second
recording changes nothing and one after more units brings the numbers up to date.
"""

import csv
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from editsweep.core import schema
from editsweep.core.cells import guarded
from editsweep.errors import ConfigError, StoreError
from editsweep.store.store import SweepStore

PREVIEW_ROWS = 500

_METRICS_A_BATCH = 1000
_PARAMS_A_BATCH = 100
_PARAM_LENGTH = 6000
_DIGEST_LENGTH = 36
_SWEEP_FILES = ("report.html", "leaderboard.csv", "timings.csv", "sweep.lock.yaml", "plan.json")
_AXES = ("model", "model_revision", "editor", "dataset", "split", "regime", "seed", "edits")
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


@dataclass(frozen=True)
class RecordResult:
    """What came of a recording; `reason` says why it could not be done, or is empty."""

    recorded: bool
    tracking_uri: str
    reason: str = ""
    parent_run_id: str | None = None
    created: int = 0
    updated: int = 0


def record(
    folder: Path,
    tracking_uri: str | None,
    experiment: str,
    rows: Sequence[Mapping[str, Any]],
) -> RecordResult:
    """Bring a sweep's runs in MLflow up to date: one for the sweep, below it one a cell.

    Args:
        folder: the sweep's folder, with `plan.json` and committed parts.
        tracking_uri: any MLflow tracking URI; None is `default_uri(folder)`.
        experiment: the experiment's name; made if absent.
        rows: the leaderboard in long form, one mapping a row.

    Returns:
        What was recorded. A server that is down or refuses is not an error of the sweep: the
        result says so, and the same call later makes up for it.

    Raises:
        StoreError: the folder itself cannot be read.
    """
    uri = default_uri(folder) if tracking_uri is None else tracking_uri
    sweep = _Sweep.read(folder, rows)
    with _environment():
        try:
            return _Recorder(uri, experiment, sweep).run()
        except Exception as error:  # mlflow lets through errors of requests, SQLAlchemy, the disk
            first = str(error).strip().splitlines() or [type(error).__name__]
            return RecordResult(False, without_password(uri), without_password(first[0][:500]))


def default_uri(folder: Path) -> str:
    """The SQLite store beside the sweep folders."""
    return f"sqlite:///{folder.resolve().parent / 'mlflow.db'}"


def ui_command(tracking_uri: str, port: int) -> list[str]:
    """The command line that serves MLflow's pages on this machine only, until it is ended.

    Raises:
        ConfigError: the URI is a server's, which has its own pages.
    """
    if urlsplit(tracking_uri).scheme in ("http", "https"):
        raise ConfigError(f"{without_password(tracking_uri)} is a server: open it in a browser")
    home = _artifact_home(tracking_uri)
    return [
        *("env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "MLFLOW_DISABLE_TELEMETRY=true"),
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--backend-store-uri", tracking_uri),
        *(("--default-artifact-root", home) if home else ()),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]


def without_password(text: str) -> str:
    """`text` with the user and password of any URL in it left out."""
    return re.sub(r"://[^/@\s]+@", "://", text)


def metric_name(text: str) -> str:
    """`text` with what MLflow refuses in a name replaced by `_`."""
    return re.sub(r"[^\w\-. /]", "_", text)[:250]


@dataclass(frozen=True)
class _Sweep:
    """All that is written to MLflow, read before the first call."""

    folder: Path
    plan: Mapping[str, Any]
    tables: Mapping[str, pa.Table]
    times: Mapping[str, int]
    rows: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path, rows: Sequence[Mapping[str, Any]]) -> "_Sweep":
        store = SweepStore(folder)
        try:
            plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"{folder} has no plan.json: is it the folder of a sweep?") from None
        tables = store.tables()
        times = {
            unit: round(1000 * datetime.fromisoformat(line.committed_at).timestamp())
            for unit, line in store.committed().items()
        }
        return cls(folder, plan, tables, times, rows)

    def span(self, units: Sequence[Mapping[str, Any]]) -> tuple[int, int, bool]:
        """First and last commit of these units in ms since 1970, and whether all are there."""
        found = [self.times[u["unit_id"]] for u in units if u["unit_id"] in self.times]
        complete = len(found) == len(units)
        return (min(found), max(found), complete) if found else (0, 0, complete)


class _Recorder:
    def __init__(self, uri: str, experiment: str, sweep: _Sweep) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.uri = uri
        self.sweep = sweep
        self.sweep_id = str(sweep.plan["sweep_id"])
        self.experiment_id = self._experiment(experiment)
        self.created = 0
        self.updated = 0

    def run(self) -> RecordResult:
        plan = self.sweep.plan
        parent = self._run("sweep", self.sweep_id, str(plan["name"]), {}, plan["units"])
        existing = [self.sweep.folder / name for name in _SWEEP_FILES]
        for path in existing:
            if path.exists():
                self.client.log_artifact(parent, str(path))
        for cell in plan["cells"]:
            self._cell(cell, parent)
        self._finish(parent, plan["units"])
        return RecordResult(
            recorded=True,
            tracking_uri=without_password(self.uri),
            parent_run_id=parent,
            created=self.created,
            updated=self.updated,
        )

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(name, _artifact_home(self.uri), tags))

    def _run(
        self,
        kind: str,
        key: str,
        name: str,
        tags: Mapping[str, str],
        units: Sequence[Mapping[str, Any]],
    ) -> str:
        """The id of the one run with this kind and key, made if there is none."""
        own = {
            "editsweep.kind": kind,
            "editsweep.sweep_id": self.sweep_id,
            f"editsweep.{kind}_id": key,
        }
        found = self.client.search_runs(
            [self.experiment_id],
            " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in own.items()),
            max_results=1,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        )
        if found:
            self.updated += 1
            return str(found[0].info.run_id)
        self.created += 1
        start = self.sweep.span(units)[0]
        all_tags = {**own, **tags, "editsweep.schema_version": str(schema.VERSION)}
        made = self.client.create_run(self.experiment_id, start or None, all_tags, name)
        return str(made.info.run_id)

    def _cell(self, cell: Mapping[str, Any], parent: str) -> None:
        cell_id = str(cell["cell_id"])
        units = [u for u in self.sweep.plan["units"] if u["cell_id"] == cell_id]
        tags = {"mlflow.parentRunId": parent}
        run_id = self._run("cell", cell_id, str(cell["label"]), tags, units)
        self._params(run_id, cell)
        self._metrics(run_id, cell_id, self.sweep.span(units)[1])
        self._dataset(run_id, cell)
        with tempfile.TemporaryDirectory() as draft:
            self._files(Path(draft), cell_id)
            self.client.log_artifacts(run_id, draft)
        self._finish(run_id, units)

    def _params(self, run_id: str, cell: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        values = {name: cell[name] for name in _AXES if name in cell}
        values |= {f"editor.{name}": value for name, value in cell.get("params", {}).items()}
        params = [
            Param(metric_name(name), _param(value)[:_PARAM_LENGTH])
            for name, value in values.items()
        ]
        for i in range(0, len(params), _PARAMS_A_BATCH):
            batch = params[i : i + _PARAMS_A_BATCH]
            self.client.log_batch(run_id, params=batch, synchronous=True)

    def _metrics(self, run_id: str, cell_id: str, time: int) -> None:
        from mlflow.entities import Metric

        values = metrics([row for row in self.sweep.rows if row["cell_id"] == cell_id])
        batch = [Metric(name, value, time, 0) for name, value in values.items()]
        for i in range(0, len(batch), _METRICS_A_BATCH):
            chosen = batch[i : i + _METRICS_A_BATCH]
            self.client.log_batch(run_id, metrics=chosen, synchronous=True)

    def _dataset(self, run_id: str, cell: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name = f"{cell['dataset']}:{cell['split']}"
        digest = str(cell["dataset_digest"])[:_DIGEST_LENGTH]
        source = json.dumps({"uri": name})
        dataset = Dataset(name=name, digest=digest, source_type="local", source=source)
        tags = [InputTag("mlflow.data.context", "evaluation")]
        self.client.log_inputs(run_id, [DatasetInput(dataset, tags)])

    def _files(self, draft: Path, cell_id: str) -> None:
        (draft / "results").mkdir()
        (draft / "preview").mkdir()
        for kind, table in self.sweep.tables.items():
            own = table.filter(pc.equal(table["cell_id"], cell_id))
            (draft / "results" / f"{kind}.arrow").write_bytes(schema.to_ipc(own))
            if kind == "answers":
                _preview(draft / "preview" / "answers.csv", own.slice(0, PREVIEW_ROWS))

    def _finish(self, run_id: str, units: Sequence[Mapping[str, Any]]) -> None:
        _, end, complete = self.sweep.span(units)
        status = "complete" if complete else "partial"
        self.client.set_tag(run_id, "editsweep.status", status)
        if complete:
            self.client.set_terminated(run_id, "FINISHED", end or None)


def metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """MLflow's names and values for one cell's leaderboard rows.

    `<axis>.<metric>` after the edit, with `.ci_low`, `.ci_high` and `.n`, and the same under
    `pre.`. A metric with several protocols on an axis has the protocol behind its name. What is
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
        if row["phase"] == "pre":
            name = f"pre.{name}"
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


def _param(value: object) -> str:
    plain = isinstance(value, str)
    return str(value) if plain else json.dumps(value, sort_keys=True, default=str)


def _artifact_home(uri: str) -> str | None:
    """The folder beside an SQLite file; None leaves it to the server."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()


@contextmanager
def _environment() -> Iterator[None]:
    """Our settings of mlflow for the length of the block; what the user has set stays."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
