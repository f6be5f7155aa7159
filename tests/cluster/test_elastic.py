"""Real Ray: workers that come and go with nodes, stragglers, hung units, models kept, shared GPUs."""

import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from editsweep.run.cluster import environment
from editsweep.run.drive import WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.layout import cores
from editsweep.run.progress import Silent
from editsweep.run.status import read_status
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore
from editsweep.testing import installed

pytestmark = [
    pytest.mark.cluster,
    # Of Ray's own way to start nodes.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).parents[2]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
SLOW = {"ES_SLEEP": "1.5"}
BUSY = "ray::Worker.run"
# An editor that changes nothing: it writes down which GPUs it has, sleeps ES_SLEEP seconds an edit,
# and hangs at `hang`.
PLUGIN = """
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from editsweep.editors.base import Edited
from editsweep.model.patch import Patch


@dataclass(frozen=True)
class SleepSpec:
    name: ClassVar[str] = "sleep"
    regimes: ClassVar[frozenset[str]] = frozenset({"single"})
    hang: str = ""
    notes: str = ""

    def requirements(self):
        return {}

    def build(self, model, assets):
        return _Sleep(self)


@dataclass(frozen=True)
class _Sleep:
    spec: SleepSpec

    def edit(self, groups, seed):
        spec, seconds = self.spec, float(os.environ.get("ES_SLEEP", "0"))
        if spec.notes:
            gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            Path(spec.notes, str(os.getpid())).write_text(gpus)
        for group in groups:
            for request in group:
                time.sleep(1000 if request.subject == spec.hang else seconds)
        return [Edited(Patch()) for _ in groups]
"""
SLEEP = f"""
name: t
models: [tiny-llama]
editors: [{{name: sleep}}]
datasets: ["{EDITS}"]
metrics: {{max_new_tokens: 2, generate: []}}
unit_size: 2
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A folder with the editor `sleep`, which is on the path."""
    folder = tmp_path_factory.mktemp("plugin")
    with installed(folder, PLUGIN, {"sleep": "es_sleep:SleepSpec"}):
        yield folder


def options(folder, **changes):
    return RunOptions(threads=1, cache=folder.parent / "cache", record=False, **changes)


def undisturbed(text, folder, settings=()):
    """The leaderboard of a run without Ray."""
    run_sweep(parse_sweep(text, settings), folder, options(folder, executor="inline"))
    return (folder / "leaderboard.csv").read_bytes()


def events(folder, name):
    lines = map(json.loads, (folder / "progress.jsonl").read_text().splitlines())
    return [event for event in lines if event["event"] == name]


def committed_once(folder, units):
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    return len(lines) == len(SweepStore(folder).committed()) == units


@pytest.mark.skipif(cores() < 2, reason="this machine has one core")
def test_a_straggler_is_done_by_a_second_worker(tmp_path, plugin, strike, have_ended):
    folder, progress = tmp_path / "t", strike(BUSY, signal.SIGSTOP)
    with environment({"ES_SLEEP": "0.5"}):
        result = run_sweep(parse_sweep(SLEEP), folder, options(folder, workers=2), progress)
    assert (result.exit_code, len(progress.struck)) == (0, 1)
    assert len(events(folder, "second_copy")) == 1
    assert events(folder, "worker_died") == []
    assert committed_once(folder, 4)
    assert (folder / "leaderboard.csv").read_bytes() == undisturbed(SLEEP, tmp_path / "i" / "t")
    assert have_ended(progress.struck, 30)


def test_a_hung_unit_is_ended_and_only_what_always_hangs_is_lost(tmp_path, plugin):
    first = json.loads(EDITS.read_text().splitlines()[0])["subject"]
    settings = [f"editors=[{{name: sleep, hang: {first}}}]", "unit_size=1"]
    text = SLEEP.replace(f'["{EDITS}"]', f'[{{name: "{EDITS}", limit: 3}}]')
    folder = tmp_path / "t"
    chosen = options(folder, workers=1, unit_timeout=15)
    result = run_sweep(parse_sweep(text, settings), folder, chosen)
    assert (result.exit_code, result.edits_failed) == (WITH_FAILURES, 1)
    assert read_status(folder)["errors"] == {"timeout": 1}
    assert {event["kind"] for event in events(folder, "worker_died")} == {"timeout"}
    rows = SweepStore(folder).table("edits").to_pylist()
    assert {r["subject"]: r["status"] for r in rows if r["status"] == "failed"} == {first: "failed"}
    assert "--unit-timeout" in next(r["error_text"] for r in rows if r["status"] == "failed")
    assert committed_once(folder, 3)


@pytest.mark.skipif(cores() < 2, reason="this machine has one core")
def test_a_worker_keeps_its_model_and_takes_another_only_to_be_busy(tmp_path, plugin):
    sweep = parse_sweep(SLEEP, ["models=[tiny-llama, tiny-gpt2]", "seeds=[0, 1]"])
    folder = tmp_path / "t"
    with environment({"ES_SLEEP": "0.2"}):
        assert run_sweep(sweep, folder, options(folder, workers=2)).exit_code == 0
    loads = [(event["worker"], event["model"]) for event in events(folder, "loaded")]
    assert len(loads) == len(set(loads)) <= 3
    assert {model for _, model in loads} == {"tiny-llama", "tiny-gpt2"}
    cells = {
        c["cell_id"]: c["model"] for c in json.loads((folder / "plan.json").read_text())["cells"]
    }
    plan = json.loads((folder / "plan.json").read_text())["units"]
    model_of = {unit["unit_id"]: cells[unit["cell_id"]] for unit in plan}
    had, todo = {}, Counter(model_of.values())
    for line in (folder / "progress.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "committed":
            todo[model_of[event["unit"]]] -= 1
        elif event["event"] == "loaded":
            before = had.get(event["worker"])
            # What is left of the model that it gives up is on the other worker.
            assert before is None or todo[before] <= 1
            had[event["worker"]] = event["model"]


class Weather(Silent):
    """Nodes come and go: one more, then the first is lost, then all, then there is a new one."""

    def __init__(self, nodes, folder):
        self.nodes, self.folder, self.said = nodes, folder, []
        self.first, self.later, self.steps = nodes.add(SLOW), None, 0

    def update(self, now):
        if not now.done:
            return
        if self.steps == 0:
            self.later = self.nodes.add(SLOW)
            self.steps, self.known = 1, len(events(self.folder, "loaded"))
        elif self.steps == 1 and len(events(self.folder, "loaded")) > self.known:
            self.nodes.remove(self.first)
            self.steps, self.known = 2, now.done
        elif self.steps == 2 and events(self.folder, "worker_died") and now.done > self.known:
            self.nodes.remove(self.later)
            self.steps = 3
        elif self.steps == 3 and len(events(self.folder, "worker_died")) > 1:
            self.later = self.nodes.add(SLOW)
            self.steps = 4

    def say(self, message):
        self.said.append(message)


def test_workers_follow_the_nodes_of_a_cluster(tmp_path, plugin, nodes):
    settings = ["seeds=[0, 1, 2]", "unit_size=1"]
    folder = tmp_path / "t"
    weather = Weather(nodes, folder)
    sweep, chosen = parse_sweep(SLEEP, settings), options(folder, address=nodes.address)
    try:
        result = run_sweep(sweep, folder, chosen, weather)
    finally:
        nodes.remove(weather.later)
    assert weather.steps == 4
    assert (result.exit_code, result.edits_failed) == (0, 0)
    assert {event["kind"] for event in events(folder, "worker_died")} == {"node_lost"}
    assert len({event["worker"] for event in events(folder, "loaded")}) == 3
    assert committed_once(folder, 24)
    whole = undisturbed(SLEEP, tmp_path / "i" / "t", settings)
    assert (folder / "leaderboard.csv").read_bytes() == whole


def test_workers_share_a_gpu(tmp_path, plugin, nodes):
    notes, folder = tmp_path / "notes", tmp_path / "t"
    notes.mkdir()
    sweep = parse_sweep(SLEEP, [f"editors=[{{name: sleep, notes: {notes}}}]"])
    node = nodes.add(SLOW, num_cpus=2, num_gpus=1)
    chosen = options(folder, address=nodes.address, gpus_per_worker=0.5)
    try:
        assert run_sweep(sweep, folder, chosen).exit_code == 0
    finally:
        nodes.remove(node)
    assert [path.read_text() for path in notes.iterdir()] == ["0", "0"]


def test_a_worker_has_several_gpus_of_one_node(tmp_path, plugin, nodes):
    notes, folder = tmp_path / "notes", tmp_path / "t"
    notes.mkdir()
    sweep = parse_sweep(SLEEP, [f"editors=[{{name: sleep, notes: {notes}}}]"])
    added = [nodes.add(num_cpus=1, num_gpus=1), nodes.add(SLOW, num_cpus=3, num_gpus=4)]
    chosen = options(folder, address=nodes.address, gpus_per_worker=2)
    try:
        assert run_sweep(sweep, folder, chosen).exit_code == 0
    finally:
        for node in added:
            nodes.remove(node)
    assert sorted(path.read_text() for path in notes.iterdir()) == ["0,1", "2,3"]
