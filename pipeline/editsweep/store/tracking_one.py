"""What is one run in MLflow, as a training and a tracing are; a sweep is many (`tracking`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from editsweep.core.scrub import scrubbed
from editsweep.store.tracking_client import Point, RecordResult, Runs, tried


@dataclass(frozen=True)
class OneRun:
    """A run as MLflow gets it; `kind` and `key` are its identity.

    `tags` go without our prefix. `points` are (metric, value, step). `data` is the name and the digest
    of what was read. `texts` are kept as files by their names, and so are `files`, which lie in
    `folder`.
    """

    kind: str
    key: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    points: Sequence[tuple[str, float, int]]
    data: tuple[str, str] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    files: Sequence[str] = ()


def record_one(made: OneRun, tracking_uri: str, experiment: str) -> RecordResult:
    """Bring the run in MLflow up to date; a second call changes nothing.

    Returns:
        What was recorded. A server that is down or refuses is no error of what was done: the result
        says so, and the same call later makes up for it.
    """
    among = {"editsweep.kind": made.kind, f"editsweep.{made.kind}_id": made.key}
    return tried(tracking_uri, lambda: _record(Runs(tracking_uri, experiment, among), made))


def _record(runs: Runs, made: OneRun) -> RecordResult:
    tags = {f"editsweep.{name}": value for name, value in made.tags.items()}
    run = runs.find_or_make(made.kind, made.key, made.name, None, tags)
    run_id, time = str(run.info.run_id), int(run.info.start_time)
    points = [Point(name, value, time, step) for name, value, step in made.points]
    runs.write(run_id, made.params, points)
    if made.data is not None:
        runs.dataset(run_id, *made.data, made.kind)
    for name, text in made.texts.items():
        runs.client.log_text(run_id, text, name)
    for name in made.files:
        below = str(Path(name).parent)
        runs.client.log_artifact(run_id, str(made.folder / name), None if below == "." else below)
    if run.info.status == "RUNNING":
        runs.client.set_tag(run_id, "editsweep.status", "complete")
        runs.client.set_terminated(run_id, "FINISHED")
    uri = scrubbed(runs.uri)
    return RecordResult(True, uri, "", run_id, runs.created, runs.updated)
