"""A sequence that is killed, damaged or shared out ends byte for byte like an undisturbed one."""

import json
import random
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from editsweep.core import schema
from editsweep.editors import EDITORS
from editsweep.editors.base import Edited
from editsweep.model.merge import load_patch, unpack
from editsweep.model.patch import Dense, Patch
from editsweep.run import drive
from editsweep.run.drive import INTERRUPTED, WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.inline import InlineExecutor
from editsweep.run.progress import Silent
from editsweep.run.status import read_status
from editsweep.run.sweep import parse_sweep
from editsweep.run.tasks import Died, EditTask, Failure, Outcome
from editsweep.store.store import SweepStore

ROOT = Path(__file__).parents[2]
SWEEP = """
name: t
models: [tiny-llama]
editors:
  - {name: ft, steps: 2}
  - {name: rome, moment: identity, contexts: 2, steps: 2}
  - heavy
datasets: [{name: world, limit: 8}]
regimes: [{sequential: {size: 1, every: 2, sample: 4}}]
metrics: {max_new_tokens: 2}
"""
UNITS = 3 * 4
TIMED = ("edit_s", "probe_s")


@dataclass(frozen=True)
class HeavySpec:
    """Adds a little to one matrix, less with every step that it remembers; one edit fails."""

    name: ClassVar[str] = "heavy"
    regimes: ClassVar[frozenset[str]] = frozenset({"sequential"})

    def requirements(self):
        return {}

    def build(self, model, assets):
        return Heavy(model)


@dataclass(frozen=True)
class Heavy:
    model: object

    def edit(self, groups, seed):
        raise AssertionError("a sequence goes through edit_next")

    def edit_next(self, group, state, seed):
        name = self.model.mlp_out(0)
        seen = state.get("seen", torch.zeros(1)) + len(group)
        total = state.get("total", torch.zeros(())) + self.model.weight(name).double().sum().float()
        dice = torch.Generator().manual_seed(int(group[0].edit_id[:8], 16))
        change = torch.randn(self.model.weight(name).shape, generator=dice) / seen
        return Edited(Patch({name: Dense(change)})), {"seen": seen, "total": total}


class Worker(InlineExecutor):
    """`fault(task, attempt)` says what comes of a task instead, if anything."""

    def __init__(self, cache, fault=lambda _task, _attempt: None):
        super().__init__(1, cache)
        self.fault, self.given = fault, []

    def submit(self, worker, task):
        self.given.append(task.task_id)
        super().submit(worker, task)

    def wait(self, seconds):
        event = self._task and self.fault(self._task, self.given.count(self._task.task_id))
        if event:
            self._task = None
            return [event]
        return super().wait(seconds)


class Kill(BaseException):
    """The end of the driver, at any place."""


class KillAfter(Silent):
    """Ends the driver once so many tasks are done; what is being written may or may not be kept."""

    def __init__(self, updates):
        self.left = updates

    def update(self, now):
        self.left -= 1
        if self.left < 0:
            raise Kill


@pytest.fixture(autouse=True, scope="module")
def heavy():
    with pytest.MonkeyPatch.context() as patch:
        table = dict(EDITORS.table) | {"heavy": f"{__name__}:HeavySpec"}
        patch.setattr("editsweep.core.registry.import_module", _importer())
        patch.setattr("editsweep.run.resolve.EDITORS", replace(EDITORS, table=table))
        yield


def _importer():
    import importlib
    import sys

    return lambda name: sys.modules.get(name) or importlib.import_module(name)


def start(folder, cache, fault=None, progress=None, settings=()):
    with pytest.MonkeyPatch.context() as patch:
        worker = Worker(cache, *([fault] if fault else []))
        patch.setattr(drive, "_executor", lambda *_: worker)
        options = RunOptions("inline", record=False)
        return run_sweep(parse_sweep(SWEEP, settings), folder, options, progress), worker


def ends(folder):
    """All tables without what is timed, the leaderboard, and the files of the sequences."""
    found = {}
    for kind, table in SweepStore(folder).tables().items():
        kept = table.drop_columns([name for name in TIMED if name in table.schema.names])
        found[kind] = schema.to_ipc(kept.combine_chunks())
    for name in ("leaderboard.csv", "chains.csv"):
        found[name] = (folder / name).read_bytes()
    chains = folder / "chains"
    return found | {
        str(p.relative_to(chains)): p.read_bytes() for p in chains.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "t"
    result, _ = start(folder, cache)
    assert (result.exit_code, result.units) == (0, UNITS)
    return folder


def test_one_file_a_sequence_is_left_and_it_is_the_edited_model(whole):
    files = list((whole / "chains").rglob("*.safetensors"))
    assert len(files) == 3
    for path in files:
        packed = unpack(path.read_bytes())
        assert packed.notes == {"done": 8, "failed": []}
        assert load_patch(path).norm == packed.patch.norm > 0
    assert any("seen" in unpack(path.read_bytes()).beside for path in files)


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_three_random_points(tmp_path, cache, whole, seed):
    dice, folder = random.Random(seed), tmp_path / "t"
    for _ in range(3):
        with pytest.raises(Kill):
            start(folder, cache, progress=KillAfter(dice.randint(1, 4)))
    result, _ = start(folder, cache)
    assert result.exit_code == 0
    assert ends(folder) == ends(whole)


def test_units_that_raise_and_workers_that_die_change_nothing(tmp_path, cache, whole):
    def fault(task, attempt):
        if not isinstance(task, EditTask) or attempt > 1 or task.ids.first_position % 4:
            return None
        if task.ids.first_position % 8:
            return Died(task.task_id, "gone")
        return Outcome(task.task_id, {}, 0, "", Failure.of(RuntimeError("boom")))

    start(tmp_path / "t", cache, fault)
    assert ends(tmp_path / "t") == ends(whole)


def cut(folder, units):
    """As if the driver had died after so many units, with the last state written but not the unit."""
    manifest = folder / "manifest.jsonl"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:units]))


@pytest.mark.parametrize("damage", ["remove", "alter"])
def test_a_state_that_is_not_whole_is_made_again(tmp_path, cache, whole, damage):
    folder = tmp_path / "t"
    with pytest.raises(Kill):
        start(folder, cache, progress=KillAfter(8))
    kept = list((folder / "chains").rglob("*.safetensors"))
    assert kept
    for path in kept:
        path.unlink() if damage == "remove" else path.write_bytes(path.read_bytes()[:-1] + b"?")
    before = (folder / "manifest.jsonl").read_text()
    result, _ = start(folder, cache)
    assert result.exit_code == 0
    assert (folder / "manifest.jsonl").read_text().startswith(before)
    assert len((folder / "manifest.jsonl").read_text().splitlines()) == UNITS
    assert ends(folder) == ends(whole)


def test_a_state_whose_unit_was_not_committed_is_not_gone_on_from(tmp_path, cache, whole):
    folder = tmp_path / "t"
    start(folder, cache)
    cut(folder, UNITS - 1)
    start(folder, cache)
    assert ends(folder) == ends(whole)


def poisoned(task, _attempt):
    """The second checkpoint of `ft` always raises."""
    if isinstance(task, EditTask) and task.spec.name == "ft" and task.ids.first_position == 2:
        return Outcome(task.task_id, {}, 0, "", Failure.of(RuntimeError("boom")))
    return None


def test_a_sequence_that_ends_early_ends_in_failure_rows_however_often_it_is_started(
    tmp_path, cache
):
    one, other = tmp_path / "one" / "t", tmp_path / "other" / "t"
    result, _ = start(one, cache, poisoned)
    assert (result.exit_code, result.edits_failed) == (WITH_FAILURES, 6)
    assert read_status(one)["errors"] == {"RuntimeError": 2, "not_prepared": 4}
    rows = SweepStore(one).table("edits").to_pylist()
    assert {r["error_text"] for r in rows if r["error_kind"] == "not_prepared"} == {
        "what it needs could not be made: RuntimeError: boom"
    }
    start(other, cache, poisoned)
    ft = {u["unit_id"] for u in json.loads((other / "plan.json").read_text())["units"]}
    cut_lost(other, ft)
    again, worker = start(other, cache)
    assert again.exit_code == WITH_FAILURES
    assert ends(other) == ends(one)
    assert not worker.given


def cut_lost(folder, units):
    """As if the driver had died between the rows of two checkpoints that cannot be done."""
    manifest = folder / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lost = [line["unit_id"] for line in lines if line["unit_id"] in units and line["attempt"] == 0]
    gone = set(lost[1:])
    kept = [json.dumps(line, sort_keys=True) for line in lines if line["unit_id"] not in gone]
    manifest.write_text("".join(line + "\n" for line in kept))
    assert len(gone) == 1


class Interrupt(Silent):
    """Presses Ctrl-C once some edits are done."""

    def __init__(self):
        self.pressed = False

    def update(self, now):
        if now.done and not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_leaves_a_sequence_that_goes_on(tmp_path, cache, whole):
    result, _ = start(tmp_path / "t", cache, progress=Interrupt())
    assert result.exit_code == INTERRUPTED
    rest, _ = start(tmp_path / "t", cache)
    assert rest.units_now == UNITS - result.units_now
    assert ends(tmp_path / "t") == ends(whole)
