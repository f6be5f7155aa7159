"""What recordings have in common: one experiment, runs found by their tags before they are made.

The only file that imports mlflow.
"""

import json
import math
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from editsweep.core import schema
from editsweep.core.scrub import scrubbed

_RUNS_A_PAGE = 1000
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_PREFIX = "editsweep."
_KIND = _PREFIX + "kind"
_PARENT = "mlflow.parentRunId"
_METRICS_A_BATCH = 1000
_PARAMS_A_BATCH = 100
_PARAM_LENGTH = 6000
_DIGEST_LENGTH = 36
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


@dataclass(frozen=True)
class Point:
    """One value of a metric; `time` in ms since 1970. The same point twice is one point."""

    name: str
    value: float
    time: int
    step: int = 0


class Runs:
    """The runs of one experiment, which is made if it is not there.

    A run is known by its kind and its key, which are tags of it.
    """

    def __init__(self, uri: str, experiment: str, among: Mapping[str, str]) -> None:
        """What is there already, with the tags of `among`, is looked up once."""
        from mlflow import MlflowClient

        _check_reachable(uri)
        self.client = MlflowClient(tracking_uri=uri)
        self.uri = uri
        self.experiment_id = self._experiment(experiment)
        self.created = 0
        self.updated = 0
        self._among = among
        self._made: set[str] = set()
        self._there = {who: min(runs, key=_age) for who, runs in self._look().items()}

    def find_or_make(
        self, kind: str, key: str, name: str, start: int | None, tags: Mapping[str, str]
    ) -> Any:
        """The one run of this kind with this key; a new one gets `tags` too."""
        found = self._there.get((kind, key))
        if found is not None:
            self.updated += 1
            return found
        own = {_KIND: kind, _key_tag(kind): key, _PREFIX + "schema_version": str(schema.VERSION)}
        made = self.client.create_run(
            self.experiment_id, start, {**self._among, **own, **tags}, name
        )
        self.created += 1
        self._made.add(str(made.info.run_id))
        return made

    def settle(self, parent: str) -> str:
        """Take back what somebody else made at the same time; the id of the run that is above all.

        Of runs of one kind and key the first stays, whoever made it, and everybody deletes only
        their own. All of them wrote the same numbers.
        """
        there = list(self._look().values())
        above = next((min(runs, key=_age) for runs in there if _holds(runs, parent)), None)
        above_id = parent if above is None else str(above.info.run_id)
        for runs in there:
            first = min(runs, key=_age)
            if first.data.tags.get(_PARENT, above_id) != above_id:
                self.client.set_tag(first.info.run_id, _PARENT, above_id)
            for run in runs:
                if run is not first and run.info.run_id in self._made:
                    self.client.delete_run(run.info.run_id)
                    self.created -= 1
        return above_id

    def _look(self) -> dict[tuple[str, str], list[Any]]:
        chosen = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in self._among.items())
        found: dict[tuple[str, str], list[Any]] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], chosen, max_results=_RUNS_A_PAGE, page_token=token
            )
            for run in page:
                kind = run.data.tags.get(_KIND, "")
                found.setdefault((kind, run.data.tags.get(_key_tag(kind), "")), []).append(run)
            token = page.token
            if not token:
                return found

    def write(
        self,
        run_id: str,
        params: Mapping[str, Any],
        points: Sequence[Point],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log all of it in as few calls as may be; what is not finite is left out.

        Parameters that are there already must have the same value.
        """
        from mlflow.entities import Metric, Param, RunTag

        named = [
            Param(metric_name(name), scrubbed(_param(value))[:_PARAM_LENGTH])
            for name, value in params.items()
        ]
        numbers = [
            Metric(metric_name(p.name), p.value, p.time, p.step)
            for p in points
            if math.isfinite(p.value)
        ]
        marks = [RunTag(name, scrubbed(value)) for name, value in (tags or {}).items()]
        while named or numbers or marks:
            self.client.log_batch(
                run_id,
                metrics=numbers[:_METRICS_A_BATCH],
                params=named[:_PARAMS_A_BATCH],
                tags=marks,
                synchronous=True,
            )
            numbers, named, marks = numbers[_METRICS_A_BATCH:], named[_PARAMS_A_BATCH:], []

    def dataset(self, run_id: str, name: str, digest: str, context: str) -> None:
        """Say which data the run read."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": name})
        dataset = Dataset(
            name=name, digest=digest[:_DIGEST_LENGTH], source_type="local", source=source
        )
        tags = [InputTag("mlflow.data.context", context)]
        self.client.log_inputs(run_id, [DatasetInput(dataset, tags)])

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            tags = {"mlflow.experimentKind": "custom_model_development"}
            try:
                return str(self.client.create_experiment(name, artifact_home(self.uri), tags))
            except MlflowException:  # somebody else may have made it since
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)


def _check_reachable(uri: str) -> None:
    """MLflow would try a database that is down for more than a minute and a half."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") and parts.hostname:
        where = (parts.hostname, parts.port or _PORTS.get(parts.scheme.partition("+")[0], 0))
        try:
            socket.create_connection(where, timeout=10).close()
        except OSError as error:
            raise OSError(f"no database at {parts.hostname}:{where[1]}: {error}") from error


def _key_tag(kind: str) -> str:
    return f"{_PREFIX}{kind}_id"


def _age(run: Any) -> tuple[int, str]:
    """The same order for everybody who looks."""
    return run.info.start_time, run.info.run_id


def _holds(runs: Sequence[Any], run_id: str) -> bool:
    return any(run.info.run_id == run_id for run in runs)


def tried(uri: str, write: Callable[[], RecordResult]) -> RecordResult:
    """What `write` says; where it fails, why, without secrets."""
    with mlflow_settings():
        try:
            return write()
        except Exception as error:  # mlflow lets through errors of requests, SQLAlchemy, the disk
            first = str(error).strip().splitlines() or [type(error).__name__]
            return RecordResult(False, scrubbed(uri), scrubbed(first[0])[:500])


def metric_name(text: str) -> str:
    """`text` with what MLflow refuses in a name replaced by `_`."""
    return re.sub(r"[^\w\-. /]", "_", text)[:250]


def artifact_home(uri: str) -> str | None:
    """The folder beside an SQLite file; None leaves it to the server."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()


@contextmanager
def mlflow_settings() -> Iterator[None]:
    """Our settings of mlflow for the length of the block; what the user has set stays."""
    added = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _param(value: object) -> str:
    plain = isinstance(value, str)
    return str(value) if plain else json.dumps(value, sort_keys=True, default=str)
