"""What recordings have in common: one experiment, runs found by their tags before they are made.

The only file that imports mlflow.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editsweep.core import schema

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
    """The runs of one experiment, which is made if it is not there."""

    def __init__(self, uri: str, experiment: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.uri = uri
        self.experiment_id = self._experiment(experiment)
        self.created = 0
        self.updated = 0

    def find_or_make(
        self, key: Mapping[str, str], name: str, start: int | None, tags: Mapping[str, str]
    ) -> Any:
        """The one run with the tags of `key`; a new one gets `tags` too."""
        found = self.client.search_runs(
            [self.experiment_id],
            " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in key.items()),
            max_results=1,
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        )
        if found:
            self.updated += 1
            return found[0]
        self.created += 1
        every = {**key, **tags, "editsweep.schema_version": str(schema.VERSION)}
        return self.client.create_run(self.experiment_id, start, every, name)

    def params(self, run_id: str, values: Mapping[str, Any]) -> None:
        """Log parameters; those that are there already must have the same value."""
        from mlflow.entities import Param

        params = [
            Param(metric_name(name), _param(value)[:_PARAM_LENGTH])
            for name, value in values.items()
        ]
        for i in range(0, len(params), _PARAMS_A_BATCH):
            batch = params[i : i + _PARAMS_A_BATCH]
            self.client.log_batch(run_id, params=batch, synchronous=True)

    def metrics(self, run_id: str, points: Sequence[Point]) -> None:
        """Log points; what is not finite is left out."""
        from mlflow.entities import Metric

        batch = [
            Metric(metric_name(p.name), p.value, p.time, p.step)
            for p in points
            if math.isfinite(p.value)
        ]
        for i in range(0, len(batch), _METRICS_A_BATCH):
            chosen = batch[i : i + _METRICS_A_BATCH]
            self.client.log_batch(run_id, metrics=chosen, synchronous=True)

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
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(name, artifact_home(self.uri), tags))


def tried(uri: str, write: Callable[[], RecordResult]) -> RecordResult:
    """What `write` says; where it fails, why, without the password of the URI."""
    with mlflow_settings():
        try:
            return write()
        except Exception as error:  # mlflow lets through errors of requests, SQLAlchemy, the disk
            first = str(error).strip().splitlines() or [type(error).__name__]
            return RecordResult(False, without_password(uri), without_password(first[0][:500]))


def without_password(text: str) -> str:
    """`text` with the user and password of any URL in it left out."""
    return re.sub(r"://[^/@\s]+@", "://", text)


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
