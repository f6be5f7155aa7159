"""Exceptions at each step of a worker: one that passes changes nothing, one that stays is a reason."""

import importlib
import json
from pathlib import Path

import pytest

from editsweep.run.drive import WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.retry import take_back
from editsweep.run.sweep import parse_sweep

EDITS = Path(__file__).parents[1] / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [{{name: rome, moment: identity, contexts: 2, steps: 1}}]
datasets: [{{name: "{EDITS}", limit: 2}}]
metrics: {{max_new_tokens: 2}}
unit_size: 1
"""
# Where each step is called, and what the rows say when it never succeeds.
STEPS = {
    "loading": ("editsweep.run.worker", "load", "not_prepared"),
    "base answers": ("editsweep.run.worker", "ask_base", "not_prepared"),
    "assets": ("editsweep.run.worker", "obtain", "not_prepared"),
    "building": ("editsweep.editors.rome", "RomeSpec.build", "OSError"),
    "editing": ("editsweep.run.halving", "_Halving.edit", "OSError"),
    "asking": ("editsweep.run.evaluate", "answers_of", "OSError"),
}


def run(folder):
    options = RunOptions("inline", threads=1, cache=folder.parent / "cache", record=False)
    return run_sweep(parse_sweep(SWEEP), folder, options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "t"
    assert run(folder).exit_code == 0
    return folder


def failing(monkeypatch, step, times):
    """The step raises this many times, then works."""
    module, name, _ = STEPS[step]
    owner, left = importlib.import_module(module), [times]
    *outer, name = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    real = getattr(owner, name)

    def call(*args, **more):
        if left[0] > 0:
            left[0] -= 1
            raise OSError("the disk is away")
        return real(*args, **more)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("step", STEPS)
def test_what_passes_changes_nothing(tmp_path, whole, monkeypatch, step, results):
    failing(monkeypatch, step, 2)
    assert run(tmp_path / "t").exit_code == 0
    assert results(tmp_path / "t") == results(whole)
    log = (tmp_path / "t" / "progress.jsonl").read_text().splitlines()
    raised = [event for event in map(json.loads, log) if event["event"] == "raised"]
    assert [(event["kind"], event["text"]) for event in raised] == [
        ("OSError", "the disk is away")
    ] * 2


@pytest.mark.parametrize("step", STEPS)
def test_what_stays_is_the_reason_and_is_done_again_later(
    tmp_path, whole, monkeypatch, step, results
):
    with monkeypatch.context() as patch:
        failing(patch, step, 10**6)
        result = run(tmp_path / "t")
    assert (result.exit_code, result.edits, result.edits_failed) == (WITH_FAILURES, 2, 2)
    edits = results(tmp_path / "t")["edits"]
    assert {row["error_kind"] for row in edits} == {STEPS[step][2]}
    assert all("the disk is away" in row["error_text"] for row in edits)
    assert take_back(tmp_path / "t").edits == 2
    assert run(tmp_path / "t").exit_code == 0
    assert results(tmp_path / "t") == results(whole)
