"""Workers that die, raise, run out of memory or spoil their model: the tables of an undisturbed run.

EDITSWEEP_TEST_SEED draws other histories.
"""

import json
import os
import sys
from pathlib import Path
from random import Random

import pytest
import torch

from editsweep.core import schema
from editsweep.errors import WorkerError
from editsweep.model import generation, scoring
from editsweep.run import drive
from editsweep.run.drive import WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.inline import InlineExecutor
from editsweep.run.sweep import parse_sweep
from editsweep.run.tasks import Died, EditTask, Failure, Outcome
from editsweep.store.store import SweepStore

EDITS = Path(__file__).parents[1] / "data" / "edits.jsonl"
SEED = int(os.environ.get("EDITSWEEP_TEST_SEED", "0"))
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: ft, steps: 1}}]
datasets: [{{name: "{EDITS}", limit: 5}}]
metrics: {{max_new_tokens: 2}}
unit_size: 1
"""
FIRST = "Lyon"


class Shaky(InlineExecutor):
    """Three workers; some die before their task or with its result made, some raise.

    As in a cluster a task is only ever unlucky so often: what kills a worker alone twice is a killer.
    """

    def __init__(self, draw, poison=None):
        super().__init__(1)
        self.draw, self.poison = draw, poison
        self.tasks, self.unlucky, self.deaths = {}, {}, 0

    def idle(self):
        return [worker for worker in range(3) if worker not in self.tasks]

    def submit(self, worker, task):
        self.tasks[worker] = task

    def wait(self, seconds):
        task = self.tasks.pop(self.draw.choice(sorted(self.tasks)))
        is_edit = isinstance(task, EditTask)
        if is_edit and self.poison and self.poison(task):
            return [Died(task.task_id, "poisoned")]
        if is_edit and self.unlucky.setdefault(task.task_id, 0) < 2 and self.draw.random() < 0.5:
            self.unlucky[task.task_id] += 1
            self.deaths += 1
            fate = self.draw.choice(["before", "after", "raise"])
            if fate == "raise":
                failure = Failure.of(RuntimeError("passes"))
                return [Outcome(task.task_id, {}, 0.0, "", failure)]
            if fate == "after":
                self._worker.run(task)
            return [Died(task.task_id, "struck")]
        return [self._worker.run(task)]


def run(folder, executor=None, text=SWEEP):
    options = RunOptions("inline", threads=1, record=False)
    with pytest.MonkeyPatch.context() as patch:
        if executor:
            patch.setattr(drive, "_executor", lambda *_: executor)
        return run_sweep(parse_sweep(text), folder, options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "t"
    assert run(folder).exit_code == 0
    return folder


@pytest.mark.parametrize("part", range(3))
def test_workers_that_die_and_raise_at_random_change_nothing(tmp_path, whole, part, results):
    shaky = Shaky(Random(f"{SEED} {part}"))
    result = run(tmp_path / "t", shaky)
    assert (result.exit_code, result.edits_failed) == (0, 0)
    assert shaky.deaths > 2
    assert results(tmp_path / "t") == results(whole)


@pytest.mark.parametrize("part", range(2))
def test_only_the_poison_is_lost_while_others_are_killed_at_random(tmp_path, whole, part, results):
    def poison(task):
        return task.spec.name == "ft" and task.groups[0][0].subject == FIRST

    result = run(tmp_path / "t", Shaky(Random(f"{SEED} {part}"), poison))
    assert (result.exit_code, result.edits_failed) == (WITH_FAILURES, 1)
    found, wanted = results(tmp_path / "t"), results(whole)
    (lost,) = (row for row in found["edits"] if row["status"] == "failed")
    assert (lost["subject"], lost["error_kind"]) == (FIRST, "worker_died")
    key = lost["cell_id"], lost["edit_id"]
    for kind in schema.PARTS:
        others = [row for row in found[kind] if (row["cell_id"], row["edit_id"]) != key]
        assert others == [r for r in wanted[kind] if (r["cell_id"], r["edit_id"]) != key]


def faulty_sweep(orders, unit_size):
    editors = f'editors: [{{name: faulty, orders: "{orders}"}}]'
    lines = [editors if line.startswith("editors") else line for line in SWEEP.splitlines()]
    return "\n".join(lines).replace("unit_size: 1", f"unit_size: {unit_size}")


@pytest.fixture
def calm(tmp_path, faulty):
    folder = tmp_path / "calm" / "t"
    assert run(folder, text=faulty_sweep(faulty, 2)).exit_code == 0
    return folder


def events(folder, name):
    lines = (folder / "progress.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == name]


@pytest.mark.parametrize("fault", ["write", "error"])
def test_an_editor_that_goes_wrong_once_changes_nothing(tmp_path, faulty, calm, fault, results):
    (faulty / f"{FIRST}.{fault}").write_text("once")
    assert run(tmp_path / "t", text=faulty_sweep(faulty, 2)).exit_code == 0
    assert results(tmp_path / "t") == results(calm)
    assert len(events(tmp_path / "t", "raised")) == 1


def test_an_editor_that_writes_the_model_spoils_its_own_unit_only(tmp_path, faulty, calm, results):
    (faulty / f"{FIRST}.write").write_text("always")
    result = run(tmp_path / "t", text=faulty_sweep(faulty, 2))
    assert (result.exit_code, result.edits_failed) == (WITH_FAILURES, 2)
    found, wanted = results(tmp_path / "t")["edits"], results(calm)["edits"]
    assert found[2:] == wanted[2:]
    assert {row["error_kind"] for row in found[:2]} == {"weights_changed"}
    assert "mlp" in found[0]["error_text"]


def test_a_gpu_that_fails_ends_this_process_and_the_next_goes_on(tmp_path, faulty, calm, results):
    (faulty / f"{FIRST}.broken").write_text("once")
    with pytest.raises(WorkerError, match="The same command goes on"):
        run(tmp_path / "t", text=faulty_sweep(faulty, 2))
    sys.modules.pop("faulty_editor")  # the editor of a new process
    assert run(tmp_path / "t", text=faulty_sweep(faulty, 2)).exit_code == 0
    assert results(tmp_path / "t") == results(calm)


KEYS = ("edit_id", "probe_id", "metric", "protocol", "phase", "status")


def values(folder):
    rows = SweepStore(folder).table("measurements").to_pylist()
    return {tuple(row[key] for key in KEYS): row["value"] for row in rows}


def test_memory_that_is_short_while_editing_and_asking_changes_no_number(
    tmp_path, faulty, calm, monkeypatch
):
    scored, spoken = scoring._pass, generation.extend

    def tight(real, size):
        def call(*args):
            if len(size(args)) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(*args)

        return call

    monkeypatch.setattr(scoring, "_pass", tight(scored, lambda args: args[1]))
    monkeypatch.setattr(generation, "extend", tight(spoken, lambda args: args[1]))
    (faulty / f"{FIRST}.memory").write_text("always")
    assert run(tmp_path / "t", text=faulty_sweep(faulty, 2)).exit_code == 0
    found, wanted = values(tmp_path / "t"), values(calm)
    assert found.keys() == wanted.keys()
    assert [found[key] for key in wanted] == pytest.approx(list(wanted.values()), abs=1e-4)
