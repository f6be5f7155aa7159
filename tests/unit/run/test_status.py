"""Following a run: from what is committed, then by the progress log."""

import json

import pytest

from editsweep.errors import StoreError
from editsweep.run.status import follow
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
