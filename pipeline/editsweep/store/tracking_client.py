"""What recordings have in common: one experiment, runs found by their tags before they are made.

The only file that imports mlflow.
"""

import json
import math
import os
import posixpath
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

from editsweep.core import schema
from editsweep.core.scrub import scrubbed

# How recordings are made; with another number everything is written anew.
VERSION = 1
_RUNS_A_PAGE = 1000
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_PREFIX = "editsweep."
_KIND = _PREFIX + "kind"
_CONTENT = _PREFIX + "content"
_STATUS = _PREFIX + "status"
_PARENT = "mlflow.parentRunId"
# MLflow takes 1000 entities and a million bytes in one call.
_METRICS_A_BATCH = 800
_PARAMS_A_BATCH = 100
_BYTES_A_BATCH = 500_000
_PARAM_LENGTH = 6000
_TAG_LENGTH = 8000
_NAME_LENGTH = 250
_DATASET_LENGTH = 500
_DIGEST_LENGTH = 36
# A server answers several at a time; an SQLite file has one writer.
_WRITERS = 4
# After each we look again; every one but the first two makes up for somebody else.
_ROUNDS = 6
_WAITS = (1.0, 4.0)  # seconds
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
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


@dataclass(frozen=True)
class Content:
    """What a run is to hold beside its files; `data` is name, digest and use of what was read."""

    params: Mapping[str, Any] = field(default_factory=dict)
    points: Sequence[Point] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    data: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Wanted:
    """A run that is to be there; `kind` and `key` are its identity.

    `content` is the id of all that it is to hold. `fill` gives that: it gets the run and an empty
    folder, into which it puts the run's files. `start` and `end` are ms since 1970. A run that is
    not `complete` stays open. `under` is the identity of the run above it.
    """

    kind: str
    key: str
    name: str
    content: str
    fill: Callable[[Any, Path], Content]
    start: int | None = None
    end: int | None = None
    complete: bool = True
    under: tuple[str, str] | None = None

    @property
    def who(self) -> tuple[str, str]:
        """Kind and key."""
        return self.kind, self.key


class Runs:
    """The runs of one experiment, which is made if it is not there.

    A run is known by its kind and its key, which are tags of it.
    """

    def __init__(self, uri: str, experiment: str, among: Mapping[str, str]) -> None:
        """Only runs with the tags of `among` are looked at, and new ones get them."""
        _check_reachable(uri)
        self.client = _opened(uri)
        self.uri = uri
        self.experiment_id = self._experiment(experiment)
        self._remote = urlsplit(uri).scheme in ("http", "https")
        self._among = among
        self._made: set[str] = set()
        self._one_at_a_time = Lock()
        self._there: dict[tuple[str, str], Any] = {}

    def bring(self, wanted: Sequence[Wanted]) -> dict[tuple[str, str], Any]:
        """Have each of these runs once and whole; the runs by identity.

        A call that fails after the server has done it is sent again by mlflow, and somebody else
        may record the same at this moment: so a run can be there twice. Of such the first stays
        and the others go, whoever made them. What stays and lacks something is written. Then we
        look again, until nothing is left to do.

        Raises:
            OSError: others record the same all the time.
        """
        for _ in range(_ROUNDS):
            self._settle()
            self._make([one for one in wanted if one.under is None])
            self._make([one for one in wanted if one.under is not None])
            todo = [one for one in wanted if not self._holds(one)]
            if not todo:
                return self._there
            todo = [one for one in todo if one.who in self._there]
            self._each(self._write_again, [one for one in todo if one.under is not None])
            # Last, so that a run that looks finished has all its runs below it.
            self._each(self._write_again, [one for one in todo if one.under is None])
        raise OSError("others record the same at this time: record again when they are done")

    def counted(self, wanted: Sequence[Wanted]) -> tuple[int, int]:
        """How many of these runs we made, and how many were there."""
        made = sum(self._there[one.who].info.run_id in self._made for one in wanted)
        return made, len(wanted) - made

    def look(self) -> dict[tuple[str, str], list[Any]]:
        """The runs by identity, each as often as it is there."""
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

    def _settle(self) -> None:
        found = self.look()
        self._there = {who: min(runs, key=_age) for who, runs in found.items()}
        for who, runs in found.items():
            for run in runs:
                if run is not self._there[who]:
                    self.client.delete_run(run.info.run_id)

    def _make(self, wanted: Sequence[Wanted]) -> None:
        missing = [one for one in wanted if one.who not in self._there]
        self._each(self._make_one, missing)
        if missing:
            self._settle()

    def _make_one(self, one: Wanted) -> None:
        tags = {**self._among, _KIND: one.kind, _key_tag(one.kind): one.key, **self._above(one)}
        tags |= {_CONTENT: _mark(one), _PREFIX + "schema_version": str(schema.VERSION)}
        name = plain_text(one.name, _NAME_LENGTH)
        made = self.client.create_run(self.experiment_id, one.start, tags, name)
        self._made.add(str(made.info.run_id))

    def _above(self, one: Wanted) -> dict[str, str]:
        above = None if one.under is None else self._there.get(one.under)
        return {} if above is None else {_PARENT: str(above.info.run_id)}

    def _holds(self, one: Wanted) -> bool:
        run = self._there.get(one.who)
        if run is None or (one.complete and run.info.status != "FINISHED"):
            return False
        tags = {_CONTENT: one.content, **self._above(one)}
        return all(run.data.tags.get(name) == value for name, value in tags.items())

    def _each(self, do: Callable[[Wanted], None], wanted: Sequence[Wanted]) -> None:
        if not self._remote:
            for one in wanted:
                do(one)
            return
        with ThreadPoolExecutor(_WRITERS) as pool:
            for _ in pool.map(do, wanted):
                pass  # the first error is raised, and what has not begun then is left out

    def _write_again(self, one: Wanted) -> None:
        """Write, and once more if it is refused: two who write the same stand in each other's way."""
        from mlflow.exceptions import MlflowException, RestException

        run_id = self._there[one.who].info.run_id
        refused = RestException if self._remote else MlflowException
        try:
            self._write(one)
        except refused:
            if self.client.get_run(run_id).info.lifecycle_stage == "active":
                self._write(one)  # else somebody else has settled it: the next round sees

    def _write(self, one: Wanted) -> None:
        """Files first, then numbers, then the tags that say so; closed at the very end.

        Before all of it a tag says what is being written. If it says something else when the files
        are there, somebody else writes too, and not the same: that is left to the next round.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        run = self._there[one.who]
        run_id = str(run.info.run_id)
        if run.data.tags.get(_CONTENT) != _mark(one):
            self.client.set_tag(run_id, _CONTENT, _mark(one))
        if run.info.status == "FINISHED":  # of another content
            self.client.update_run(run_id, "RUNNING")
        with tempfile.TemporaryDirectory() as draft:
            content = one.fill(run, Path(draft))
            if any(Path(draft).iterdir()):  # the client's own call asks for the run once more
                place: Any = get_artifact_repository(run.info.artifact_uri, self.uri)
                place.log_artifacts(draft)
        if content.data is not None:
            self._dataset(run_id, *content.data)
        status = "complete" if one.complete else "partial"
        tags = {**content.tags, **self._above(one), _CONTENT: one.content, _STATUS: status}
        run = self.client.get_run(run_id)
        if run.data.tags.get(_CONTENT) != _mark(one):
            return
        self._numbers(run_id, replace(content, points=_shown(content.points, run)), tags)
        if one.complete:
            self.client.set_terminated(run_id, "FINISHED", one.end)

    def _numbers(self, run_id: str, content: Content, tags: Mapping[str, str]) -> None:
        """All in as few calls as may be, the tags in the last; what is not finite is left out."""
        from mlflow.entities import Metric, Param, RunTag

        # In a mapping, as two names may become one.
        named = {
            metric_name(name): scrubbed(_param(value)) for name, value in content.params.items()
        }
        numbers = [
            Metric(metric_name(p.name), p.value, p.time, p.step)
            for p in content.points
            if math.isfinite(p.value)
        ]
        marks = [
            RunTag(name, plain_text(scrubbed(value), _TAG_LENGTH)) for name, value in tags.items()
        ]
        params = [Param(name, value) for name, value in named.items()]
        calls = list(zip_longest(_batches(params), _chunks(numbers, _METRICS_A_BATCH)))
        for place, (some, points) in enumerate(calls or [(None, None)], 1):
            self.client.log_batch(
                run_id,
                params=some or [],
                metrics=points or [],
                tags=marks if place >= len(calls) else [],
                synchronous=True,
            )

    def _dataset(self, run_id: str, name: str, digest: str, context: str) -> None:
        """Say which data the run read; MLflow refuses one of two that say the same at once."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name = plain_text(name, _DATASET_LENGTH)
        source = json.dumps({"uri": name})
        dataset = Dataset(
            name=name, digest=digest[:_DIGEST_LENGTH], source_type="local", source=source
        )
        tags = [InputTag("mlflow.data.context", context)]
        with self._one_at_a_time:
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


def _opened(uri: str) -> Any:
    """A client. Who opens a new database makes its tables: of two at once, one has to wait."""
    from mlflow import MlflowClient
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    for wait in _WAITS:
        try:
            return MlflowClient(tracking_uri=uri)
        except (IntegrityError, ProgrammingError):  # the table is there: the other one made it
            time.sleep(wait)
    return MlflowClient(tracking_uri=uri)


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


def _mark(one: Wanted) -> str:
    return f"writing {one.content}"


def _shown(points: Sequence[Point], run: Any) -> list[Point]:
    """The points, as late as they must be for MLflow to show them.

    Of a metric's points it shows that of the last step, of these the last, and of these the greatest:
    a number that changed is later than the one before.
    """
    there = {metric.key: metric for metric in run.data.to_proto().metrics}

    def later(point: Point) -> Point:
        last = there.get(metric_name(point.name))
        if last is None or last.value == point.value or last.step != point.step:
            return point
        return replace(point, time=max(point.time, last.timestamp + 1))

    return [later(point) for point in points]


def _age(run: Any) -> tuple[int, str]:
    """The same order for everybody who looks."""
    return run.info.start_time, run.info.run_id


_T = TypeVar("_T")


def _chunks(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _batches(params: Iterable[Any]) -> list[list[Any]]:
    """Parameters, as many in a batch as MLflow takes in number and in bytes."""
    batches: list[list[Any]] = []
    size = 0
    for param in params:
        more = len(json.dumps(param.value))
        if not batches or len(batches[-1]) == _PARAMS_A_BATCH or size + more > _BYTES_A_BATCH:
            batches.append([])
            size = 0
        batches[-1].append(param)
        size += more
    return batches


def tried(uri: str, write: Callable[[], RecordResult]) -> RecordResult:
    """What `write` says; where it fails, why, without secrets."""
    with mlflow_settings():
        try:
            return write()
        except Exception as error:  # mlflow lets through errors of requests, SQLAlchemy, the disk
            first = str(error).strip().splitlines() or [type(error).__name__]
            return RecordResult(False, scrubbed(uri), scrubbed(first[0])[:500])


def metric_name(text: str) -> str:
    """`text` with what MLflow refuses in a name, or would read as a path, replaced by `_`."""
    name = re.sub(r"[^\w\-. /]", "_", text)[:_NAME_LENGTH]
    if name.startswith((".", "/")) or posixpath.normpath(name) != name:
        name = re.sub(r"^\.+", "_", name.replace("/", "_")) or "_"
    return name


def plain_text(text: str, length: int) -> str:
    """At most so many characters of `text`, those that no database takes replaced by U+FFFD."""
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", text[:length])


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
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return plain_text(text, _PARAM_LENGTH)
