"""How far a sweep is, computed from what is committed; neither torch, ray nor polars."""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from editsweep.errors import StoreError
from editsweep.run import error_kinds
from editsweep.run.progress import Snapshot
from editsweep.store.store import SweepStore

# Units over which the pace is taken: many enough that those which end together do not matter.
RECENT = 100


def read_status(folder: Path) -> dict[str, Any]:
    """State, numbers by cell, and kinds of error with the first example, as plain JSON.

    `state` is `complete`, `complete with failures`, or `incomplete`; `last_event` is the last line
    of the progress log. `edits_per_second` is of the units that the run at work committed last, and
    `seconds_left` what is left at that pace; None where no run is at work or it has committed nothing.

    Raises:
        StoreError: it is not the folder of a sweep.
    """
    plan, store = _plan(folder), SweepStore(folder)
    kept = store.committed()
    edits = store.table("edits", kept)
    done = Counter(edits["cell_id"].to_pylist())
    lost = error_kinds.failed(edits, labels_of(plan))
    failed = Counter(row["cell_id"] for row in lost)
    kinds = error_kinds.by_kind(lost)
    units_done = sum(unit["unit_id"] in kept for unit in plan["units"])
    complete = units_done == len(plan["units"])
    state = "complete" if complete else "incomplete"
    total = sum(cell["edits"] for cell in plan["cells"])
    rate = recent_rate(events(folder)) if store.at_work else None
    return {
        "name": plan["name"],
        "sweep_id": plan["sweep_id"],
        "state": f"{state} with failures" if failed and complete else state,
        "units": len(plan["units"]),
        "units_done": units_done,
        "edits": total,
        "edits_done": edits.num_rows,
        "edits_failed": sum(failed.values()),
        "edits_per_second": rate,
        "seconds_left": (total - edits.num_rows) / rate if rate else None,
        "errors": {kind.kind: kind.edits for kind in sorted(kinds, key=lambda one: one.kind)},
        "error_kinds": [asdict(kind) for kind in kinds],
        "cells": [
            {
                "cell_id": cell["cell_id"],
                "label": cell["label"],
                "edits": cell["edits"],
                "done": done[cell["cell_id"]],
                "failed": failed[cell["cell_id"]],
            }
            for cell in plan["cells"]
        ],
        "last_event": last_event(folder),
        "warnings": list(store.warnings),
    }


def failed_edits(folder: Path, kind: str) -> list[Mapping[str, Any]]:
    """The failed edits of one kind of error, as plain JSON.

    Raises:
        ConfigError: no edit failed so; the message names the kinds that there are.
        StoreError: it is not the folder of a sweep.
    """
    plan = _plan(folder)
    rows = error_kinds.failed(SweepStore(folder).table("edits"), labels_of(plan))
    return error_kinds.of_kind(rows, kind)


def labels_of(plan: Mapping[str, Any]) -> dict[str, str]:
    """Each cell's label by its id, in the order of `plan.json`."""
    return {cell["cell_id"]: cell["label"] for cell in plan["cells"]}


def _plan(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "plan.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StoreError(f"{folder} has no plan.json: is it the folder of a sweep?") from None


def follow(folder: Path, wait: Callable[[], None] = lambda: sleep(1)) -> Iterator[Snapshot]:
    """How far a sweep is, again and again, until it is complete or no driver is at work on it.

    What is committed is read once; from then on the progress log says what comes. `wait` passes
    the time between two looks.

    Raises:
        StoreError: it is not the folder of a sweep.
    """
    store, log = SweepStore(folder), folder / "progress.jsonl"
    seen = log.stat().st_size if log.exists() else 0
    found = read_status(folder)
    done, failed, start = found["edits_done"], found["edits_failed"], monotonic()
    before = done
    while True:
        working = store.at_work
        fresh = log.read_bytes()[seen:] if log.exists() else b""
        whole = fresh[: fresh.rfind(b"\n") + 1]
        seen += len(whole)
        for event in map(json.loads, whole.splitlines()):
            if event.get("event") == "committed":
                done += event["edits"]
                failed += event["failed"]
        doing = "" if working or done == found["edits"] else "nobody is at work on it"
        yield Snapshot(done, found["edits"], done - before, monotonic() - start, failed, doing)
        if done >= found["edits"] or not working:
            return
        wait()


def recent_rate(log: Iterable[Mapping[str, Any]]) -> float | None:
    """Edits a second over the units that the last run of a progress log committed last.

    At most `RECENT` units count. The time is from the commit before them, or from the start of the
    run, so before it the making of what units need counts too. None before the first.
    """
    times: deque[tuple[str, int]] = deque(maxlen=RECENT + 1)
    for event in log:
        if event["event"] == "started":
            times.clear()
        if event["event"] in ("started", "committed"):
            times.append((event["time"], event.get("edits", 0)))
    if len(times) < 2:
        return None
    (first, _), *rest = times
    took = (datetime.fromisoformat(rest[-1][0]) - datetime.fromisoformat(first)).total_seconds()
    return sum(edits for _, edits in rest) / took if took > 0 else None


def events(folder: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of `progress.jsonl` that is an event."""
    path = folder / "progress.jsonl"
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and {"event", "time"} <= event.keys():
            yield event


def last_event(folder: Path) -> dict[str, Any] | None:
    """The last event of `progress.jsonl`, or None."""
    return next(iter(deque(events(folder), maxlen=1)), None)
