"""What is one run in MLflow, as a training and a tracing are; a sweep is many (`tracking`)."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from editsweep.core.ids import content_id
from editsweep.core.scrub import scrubbed
from editsweep.store.tracking_client import (
    VERSION,
    Content,
    Point,
    RecordResult,
    Runs,
    Wanted,
    tried,
)


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
    content = content_id([VERSION, repr(replace(made, folder=Path()))])
    wanted = [Wanted(made.kind, made.key, made.name, content, partial(_fill, made))]
    (run,) = runs.bring(wanted).values()
    uri = scrubbed(runs.uri)
    return RecordResult(True, uri, "", str(run.info.run_id), *runs.counted(wanted))


def _fill(made: OneRun, run: Any, draft: Path) -> Content:
    for name, text in made.texts.items():
        _below(draft, name).write_text(text, encoding="utf-8")
    for name in made.files:
        shutil.copyfile(made.folder / name, _below(draft, name))
    time = int(run.info.start_time)
    return Content(
        made.params,
        [Point(name, value, time, step) for name, value, step in made.points],
        {f"editsweep.{name}": value for name, value in made.tags.items()},
        None if made.data is None else (*made.data, made.kind),
    )


def _below(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
