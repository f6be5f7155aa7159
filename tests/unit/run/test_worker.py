import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from editsweep.core import schema
from editsweep.core.types import Corpus
from editsweep.errors import DataError, EditError
from editsweep.model.asset import Asset
from editsweep.model.catalogue import resolve as resolve_model
from editsweep.model.load import load
from editsweep.run.assets import asset_folder, find_asset, keep_asset, make_asset
from editsweep.run.evaluate import UnitIds
from editsweep.run.failures import unasked_unit
from editsweep.run.plan import Recipe, make_plan
from editsweep.run.resolve import ModelUse, Source, resolve
from editsweep.run.sweep import parse_sweep
from editsweep.run.tasks import AssetTask, BaseTask, EditTask, Failure
from editsweep.run.worker import Worker, _devices

ROOT = Path(__file__).parents[3]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [{{name: rome, moment: identity, contexts: 2, steps: 2}}]
datasets: [{{name: "{EDITS}", limit: 2}}]
"""
LLAMA = ModelUse(resolve_model("tiny-llama"))


@pytest.fixture(scope="module")
def plan():
    return make_plan(resolve(parse_sweep(SWEEP)))


@pytest.fixture(scope="module")
def tasks(plan, tmp_path_factory):
    """The asset, base and edit tasks of the one unit, and a worker."""
    worker = Worker(1, tmp_path_factory.mktemp("cache"))
    ((key, need),) = plan.assets.items()
    ((base_key, part),) = plan.bases.items()
    (unit,) = plan.units
    cell = plan.cells[unit.cell_id]
    base = BaseTask(base_key, part.model, part.requests, plan.settings)
    said = worker.run(base)
    assert said.failure is None
    edit = EditTask(
        unit.unit_id,
        cell.model,
        cell.editor.spec,
        cell.recipes,
        tuple(plan.groups(unit)),
        said.parts["base"],
        UnitIds("s", cell.cell_id, unit.unit_id),
        0,
        plan.settings,
    )
    return worker, AssetTask(key, need.model, need.recipe), base, edit


def test_a_unit_gives_its_three_tables(tasks):
    worker, _, _, edit = tasks
    outcome = worker.run(edit)
    assert outcome.failure is None
    tables = {name: schema.from_ipc(data) for name, data in outcome.parts.items()}
    assert {name: t.schema.names for name, t in tables.items()} == {
        name: s.names for name, s in schema.PARTS.items()
    }
    assert tables["edits"]["status"].to_pylist() == ["ok", "ok"]


def test_tasks_and_outcomes_pickle(tasks):
    worker, *all_tasks = tasks
    for task in all_tasks:
        assert pickle.loads(pickle.dumps(task)) == task
    outcome = worker.run(all_tasks[0])
    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_an_asset_is_made_once(tasks):
    worker, asset, _, _ = tasks
    worker.run(asset)
    folder = asset_folder(worker.cache, asset.recipe.key)
    before = folder.stat().st_mtime_ns
    Worker(1, worker.cache).run(asset)
    assert folder.stat().st_mtime_ns == before


def test_a_worker_without_the_asset_makes_it(tasks, tmp_path):
    _, asset, _, edit = tasks
    far = Worker(1, tmp_path)
    assert far.run(edit).failure is None
    assert asset_folder(tmp_path, asset.recipe.key).is_dir()


def test_the_model_and_the_editor_are_kept(tasks):
    worker, _, _, edit = tasks
    worker.run(edit)
    model, editor = worker._model, worker._editor
    worker.run(edit)
    assert worker._model is model
    assert worker._editor is editor
    worker.run(replace(edit, model=ModelUse(LLAMA.entry, token_budget=77)))
    assert worker._model[1].token_budget == 77


@pytest.mark.parametrize(
    ("gpus", "there", "expected"),
    [
        (0.5, True, "auto"),
        (1, True, "auto"),
        (3.0, True, "cuda:0,cuda:1,cuda:2"),
        (2, False, "auto"),
    ],
)
def test_a_model_lies_over_the_gpus_of_its_worker(monkeypatch, gpus, there, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert _devices(gpus) == expected


def test_an_exception_comes_back_as_a_value(tasks):
    worker, _, _, edit = tasks
    outcome = worker.run(replace(edit, base=b"no table"))
    assert outcome.parts == {}
    assert outcome.failure.kind == "ArrowInvalid"
    assert "Traceback" in outcome.failure.trace
    assert not outcome.failure.is_setup


def test_failures_say_whether_the_setup_is_wrong():
    assert Failure.of(DataError("x")).is_setup
    failure = Failure.of(EditError("no_subject", "there is none"))
    assert (failure.kind, failure.text, failure.is_setup) == ("no_subject", "there is none", False)
    assert Failure.of(ValueError()).text == "ValueError"


def test_workers_need_neither_mlflow_nor_polars_nor_ray():
    code = (
        "import sys, editsweep.run.worker; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "pipeline")},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "torch" in loaded
    assert {"mlflow", "polars", "ray", "rich", "typer"}.isdisjoint(loaded)


@dataclass(frozen=True)
class Count:
    """How many records and texts its source has."""

    source: str

    def make(self, model, corpus, work=None):
        counts = [len(corpus.requests), len(corpus.texts)]
        return Asset({"counts": torch.tensor(counts)}, {"first": corpus.texts[0]})


def test_an_asset_reads_its_source_and_comes_back_whole(tmp_path):
    source = Source(str(EDITS), "test")
    recipe = Recipe("k", Count(str(EDITS)), source, source.load().digest)
    made = make_asset(recipe, load("tiny-llama"))
    keep_asset(tmp_path, "k", made)
    found = find_asset(tmp_path, "k")
    assert found.tensors["counts"].tolist() == made.tensors["counts"].tolist() == [8, 8]
    assert found.meta == {"first": "Lyon is in France"}


def test_other_data_than_planned_are_refused():
    recipe = Recipe("k", Count(str(EDITS)), Source(str(EDITS), "test"), "another digest")
    with pytest.raises(DataError, match="other records here"):
        make_asset(recipe, load("tiny-llama"))


def test_an_asset_without_tensors(tmp_path):
    keep_asset(tmp_path, "k", Asset(meta={"templates": ["ä {}"]}))
    assert find_asset(tmp_path, "k") == Asset({}, {"templates": ["ä {}"]})


@pytest.mark.parametrize("name", ["tensors.safetensors", "meta.json"])
def test_a_damaged_asset_is_made_again(tmp_path, name):
    folder = keep_asset(tmp_path, "k", Asset({"x": torch.arange(4)}))
    (folder / name).write_bytes((folder / name).read_bytes()[:-3] + b"???")
    assert find_asset(tmp_path, "k") is None
    assert not folder.exists()
    assert find_asset(tmp_path, "other") is None


def test_an_empty_corpus_when_nothing_is_read():
    seen = []

    class Needs:
        source = None

        def make(self, model, corpus, work=None):
            seen.append(corpus)
            return Asset()

    make_asset(Recipe("k", Needs(), None, None), load("tiny-llama"))
    assert seen == [Corpus()]


def test_a_unit_without_base_answers_is_all_failures(plan):
    (unit,) = plan.units
    ids = UnitIds("s", unit.cell_id, unit.unit_id, first_position=4, first_group=4)
    tables = unasked_unit(plan.groups(unit), ids, "not_prepared", "why")
    assert tables["edits"]["position"].to_pylist() == [4, 5]
    assert set(tables["edits"]["status"].to_pylist()) == {"failed"}
    assert tables["edits"]["error_text"].to_pylist() == ["why", "why"]
    lost = tables["measurements"]
    assert lost["value"].null_count == len(lost)
    assert set(lost["status"].to_pylist()) == {"not_prepared"}
    axes = {"reliability", "paraphrase", "reverse", "portability", "locality"}
    assert set(lost["axis"].to_pylist()) == axes
    assert len(tables["answers"]) == 0


def test_an_outcome_tells_its_device_and_its_time_without_the_model(tasks, tmp_path):
    _, asset, base, _ = tasks
    worker = Worker(1, tmp_path)
    first, second = worker.run(base), worker.run(base)
    assert first.device == second.device == "cpu, 1 thread"
    assert first.work_s == pytest.approx(first.seconds - first.loaded.seconds)
    assert 0 < first.work_s < first.seconds
    assert second.work_s == second.seconds
    assert [worker.run(asset).found for _ in range(2)] == [False, True]


def test_without_a_model_there_is_no_device(tasks, tmp_path):
    _, _, base, _ = tasks
    absent = replace(LLAMA, entry=replace(LLAMA.entry, location="no-such-type"))
    outcome = Worker(1, tmp_path).run(replace(base, model=absent))
    assert outcome.failure is not None
    assert (outcome.device, outcome.loaded) == ("", None)
