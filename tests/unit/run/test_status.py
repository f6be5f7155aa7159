"""Following a run: from what is committed, then by the progress log."""

import json

import pytest

from editsweep.errors import StoreError
from editsweep.run import status
from editsweep.run.status import follow, read_status, recent_rate
from editsweep.store.store import SweepStore

PLAN = {
    "name": "t",
    "sweep_id": "s",
    "cells": [{"cell_id": "c", "label": "none", "edits": 6}],
    "units": [{"unit_id": "u1"}, {"unit_id": "u2"}],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    return tmp_path


def committed(edits, failed):
    return {"event": "committed", "edits": edits, "failed": failed}


def test_a_run_is_followed_to_its_end(folder):
    with SweepStore(folder).locked() as store:
        store.event(**committed(3, 3))  # what is in the log before is not counted from there
        shown = follow(folder, wait=lambda: None)
        assert next(shown).done == 0
        store.event(**committed(2, 1))
        store.event(event="worker_died")
        now = next(shown)
        assert (now.done, now.total, now.done_now, now.failed) == (2, 6, 2, 1)
        with (folder / "progress.jsonl").open("a") as log:
            log.write('{"event": "comm')  # a line that is being written
        assert next(shown).done == 2
        with (folder / "progress.jsonl").open("a") as log:
            log.write('itted", "edits": 4, "failed": 0}\n')
        assert next(shown).done == 6
    assert next(shown, None) is None


def test_nobody_at_work_is_said_and_not_waited_for(folder):
    (now,) = follow(folder, wait=lambda: pytest.fail("it waits"))
    assert str(now) == "0/6 edits · nobody is at work on it"


def test_no_sweep_no_following(tmp_path):
    with pytest.raises(StoreError, match="folder of a sweep"):
        next(follow(tmp_path))


def at(second, **event):
    return {"time": f"2026-01-01T00:00:{second:02}.000+00:00", **event}


def test_the_rate_is_of_the_last_units_of_the_last_run(monkeypatch):
    log = [at(0, event="started"), at(1, **committed(900, 0)), at(10, event="started")]
    assert recent_rate(log[:1]) is recent_rate(log) is recent_rate([]) is None
    log += [at(14, **committed(4, 0)), at(15, event="loaded"), at(18, **committed(12, 1))]
    assert recent_rate(log) == 16 / 8
    monkeypatch.setattr(status, "RECENT", 1)
    assert recent_rate(log) == 12 / 4


def test_before_the_first_commit_no_time_is_told(folder):
    with SweepStore(folder).locked() as store:
        store.event(event="started")
        found = read_status(folder)
    assert (found["edits_per_second"], found["seconds_left"]) == (None, None)


def test_time_left_follows_from_the_rate_while_a_run_is_at_work(folder):
    log = (at(0, event="started"), at(4, **committed(2, 0)))
    (folder / "progress.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in log))
    with SweepStore(folder).locked():
        found = read_status(folder)
    assert (found["edits_per_second"], found["seconds_left"]) == (0.5, 12.0)
    stopped = read_status(folder)
    assert (stopped["edits_per_second"], stopped["seconds_left"]) == (None, None)
