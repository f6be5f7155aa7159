"""What the meters of a run show after its events, without Ray."""

import json
from collections import defaultdict

import pytest

from editsweep.run import drive
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.meters import METERS, Amount, Kind, Meters
from editsweep.run.sweep import parse_sweep

SWEEP = """
name: t
models: [tiny-llama]
editors: [none, {name: ft, steps: 1}, {name: ft, steps: 2, label: secret}]
datasets: [{name: world, limit: 3}]
unit_size: 2
metrics: {max_new_tokens: 2}
"""


class Shown:
    """A sink that keeps what each series shows, as Prometheus would."""

    def __init__(self):
        self.values = defaultdict(float)
        self.seen = defaultdict(list)

    def record(self, meter, value, labels):
        assert set(labels) == set(meter.labels)
        key = meter.name, *(labels[name] for name in meter.labels)
        if meter.kind is Kind.COUNTER:
            self.values[key] += value
        elif meter.kind is Kind.GAUGE:
            self.values[key] = value
        else:
            self.seen[key].append(value)

    def __getitem__(self, name):
        return self.values[f"editsweep_{name}", "t"]


@pytest.fixture
def shown():
    return Shown()


@pytest.fixture
def meters(shown):
    return Meters(shown, "t", whole=Amount(10, 100), before=Amount(2, 20))


def committed(edits=10, failed=0, attempt=1):
    return {"event": "committed", "edits": edits, "failed": failed, "attempt": attempt}


def test_counters_stand_at_nothing_before_anything_happened(shown, meters):
    counters = {name for name, meter in METERS.items() if meter.kind is Kind.COUNTER}
    assert {name: value for (name, _), value in shown.values.items()} == dict.fromkeys(counters, 0)


def test_commits_count_for_this_run_and_for_the_sweep(shown, meters):
    meters.event(committed(10, failed=3))
    meters.event(committed(10, failed=10, attempt=2))
    meters.show(units_in_flight=2, tasks_in_flight=3)
    assert (shown["units_done_total"], shown["units_committed"], shown["units"]) == (2, 4, 10)
    assert (shown["edits_done_total"], shown["edits_committed"], shown["edits"]) == (20, 40, 100)
    assert (shown["edits_failed_total"], shown["units_failed_total"]) == (13, 1)
    assert shown["units_retried_total"] == 1
    assert (shown["units_queued"], shown["tasks_in_flight"]) == (4, 3)


def test_the_last_commit_is_the_start_until_there_is_one(shown, monkeypatch):
    clock = iter([100.0, 160.0])
    monkeypatch.setattr("editsweep.run.meters.time", lambda: next(clock))
    meters = Meters(shown, "t", Amount(1, 2), Amount(0, 0))
    meters.show(0, 0)
    assert shown["last_commit_timestamp_seconds"] == 100.0
    meters.event({"event": "raised"})
    meters.event(committed())
    meters.show(0, 0)
    assert shown["last_commit_timestamp_seconds"] == 160.0


def test_a_dead_worker_counts(shown, meters):
    meters.event({"event": "worker_died", "task": "x", "text": "y"})
    assert shown["worker_deaths_total"] == 1


def test_a_run_without_ray_feeds_them_names_and_numbers_only(tmp_path, shown, monkeypatch):
    def meters(_options, plan, _store):
        return Meters(shown, plan.name, Amount(6, 9), Amount(0, 0))

    monkeypatch.setattr(drive, "_meters", meters)
    options = RunOptions("inline", record=False, cache=tmp_path / "cache")
    run_sweep(parse_sweep(SWEEP), tmp_path / "t", options)
    assert (shown["edits_done_total"], shown["units_committed"]) == (9, 6)
    assert (shown["units_queued"], shown["tasks_in_flight"]) == (0, 0)
    seconds = {key[1:]: len(values) for key, values in shown.seen.items()}
    assert seconds == {("t", "none"): 3, ("t", "ft"): 6}
    log = (tmp_path / "t" / "progress.jsonl").read_text().splitlines()
    cells = [e["cell"] for e in map(json.loads, log) if e["event"] == "committed"]
    assert sorted(set(cells)) == ["ft steps=1", "none", "secret"]
