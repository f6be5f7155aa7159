"""The training file: strict, nested hyperparameters, and the same network as a sweep's."""

import json

import pytest

from editsweep.editors.ke import KeSpec
from editsweep.errors import ConfigError
from editsweep.learn.training import Training
from editsweep.model.catalogue import resolve as resolve_model
from editsweep.run.plan import make_plan
from editsweep.run.resolve import ModelUse, make_spec, plain, resolve, usual
from editsweep.run.sweep import parse_sweep
from editsweep.run.train import training_job
from editsweep.run.training_file import load_training, parse_training
from editsweep.run.untrained import how_to_train, trained_first

TRAINING = """
name: t
model: tiny-llama
editor: {name: mend, network: {blocks: 1}, training: {steps: 3, records: 60}}
dataset: world
"""
SWEEP = """
name: s
models: [tiny-llama]
editors:
  - name: mend
    network: {blocks: 1}
    training: {records: 60}
    grid: {training.steps: [3, 4]}
datasets: [{name: world, limit: 2}]
"""


def job(*settings):
    return training_job(parse_training(TRAINING, settings))


def test_a_part_that_is_not_named_keeps_the_editors_default():
    spec = make_spec("ke", {"training": {"steps": 5}, "network.rate": 1}, "ke")
    assert spec.training.margin == KeSpec().training.margin is not None
    assert (spec.training.steps, spec.network.rate) == (5, 1.0)
    assert spec.network.code == KeSpec().network.code
    assert make_spec("ke", {}, "ke") == KeSpec()


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"training": {"stepz": 5}}, "e.training.stepz: unknown hyperparameter of mend.training"),
        ({"training.stepz": 5}, "did you mean 'steps'?"),
        ({"training": {"steps": "5"}}, "e.training.steps: "),
        ({"training": {"steps": 0}}, "e.training: steps 0"),
        ({"training": 5}, "e.training: write a mapping of steps, models"),
        ({"network": {"rank": 0}}, "e: mend: network.rank"),
        ({"training": {"steps": 5}, "training.steps": 6}, "'training.steps' has a value more than"),
        ({"training": 5, "training.steps": 6}, "'training.steps' has a value more than once"),
    ],
)
def test_what_is_wrong_in_a_part_is_told_with_its_place(params, told):
    with pytest.raises(ConfigError) as caught:
        make_spec("mend", params, "e")
    assert told in str(caught.value)


def test_defaults_are_plain_and_dotted():
    found = usual(KeSpec)
    assert found["training.margin"] == KeSpec().training.margin
    assert found == usual(KeSpec(training=Training(steps=7)))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("editor.grid={training.rate: [1]}", "editor.grid"),
        ("models=[tiny-llama]", "unknown key 'models'; did you mean 'model'?"),
        ("dataset.limit=5", "dataset.limit: unknown key 'limit'"),
        ("editor=rome", "editor 'rome' has no trained networks"),
        ("dataset=worl", "did you mean 'world'?"),
        ("name=a b", "training name 'a b'"),
        ("editor.training.stepz=1", "editor.training.stepz: unknown"),
    ],
)
def test_a_wrong_training_is_refused(setting, told):
    with pytest.raises(ConfigError) as caught:
        job(setting)
    assert told in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_training(tmp_path / "t.yaml")
    with pytest.raises(ConfigError, match="a training is a mapping with `name`, `model`"):
        parse_training("[1]")


def test_the_network_is_the_one_that_a_sweep_asks_for():
    plan = make_plan(resolve(parse_sweep(SWEEP)))
    wanted = {cell.label: set(cell.recipes["network"].key.split()) for cell in plan.cells.values()}
    assert wanted == {
        "mend training.steps=3": {job().recipe.key},
        "mend training.steps=4": {job("editor.training.steps=4").recipe.key},
    }
    assert job("editor.training.seed=1").recipe.key not in plan.assets
    assert job("model.dtype=float16").recipe.key not in plan.assets
    assert job("model.token_budget=64").recipe.key in plan.assets


def test_an_undivided_dataset_is_learnt_from_whole_wherever_its_file_lies(tmp_path):
    record = {
        "src": "Where is Lyon?",
        "subject": "Lyon",
        "alt": "Peru",
        "rephrase": "Where's Lyon?",
    }
    record |= {"answers": ["France"], "loc": "nq question: who is it", "loc_ans": "Ada"}
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(record) + "\n", encoding="utf-8")
    wanted = f"{{name: mend, source: zsre@{tmp_path / 'b.jsonl'}}}"
    plan = make_plan(resolve(parse_sweep(SWEEP, [f"editors=[{wanted}]"])))
    text = "name: t\nmodel: tiny-llama\neditor: mend\ndataset: "
    for said in (f"zsre@{tmp_path / 'a.jsonl'}", f"{{name: zsre, path: {tmp_path / 'a.jsonl'}}}"):
        assert training_job(parse_training(text + said)).recipe.key in plan.assets


def test_a_value_beside_the_grid_and_in_it_is_refused():
    with pytest.raises(ConfigError, match=r"'training.records' stands beside `grid`"):
        parse_sweep(SWEEP, ["editors[0].grid={training.records: [50]}"])


def test_what_is_to_be_trained_is_told_with_the_file_that_does_it(tmp_path):
    plan = make_plan(resolve(parse_sweep(SWEEP)))
    first, second = trained_first(plan, tmp_path)
    assert first.startswith("mend training.steps=3: its network for tiny-llama is not in the cache")
    assert "at most 3 steps" in first
    text = "\n".join(line.strip() for line in second.splitlines()[1:])
    assert training_job(parse_training(text)).recipe.key in plan.assets
    for key in plan.assets:
        (tmp_path / "assets" / key).mkdir(parents=True)
    assert list(trained_first(plan, tmp_path)) == []


def test_a_default_that_is_taken_back_is_written_down():
    spec = make_spec("ke", {"training.margin": None}, "ke")
    use = ModelUse(resolve_model("tiny-llama"))
    said = how_to_train("ke", spec, job().recipe, use)
    text = "\n".join(line.strip() for line in said.splitlines()[1:])
    assert training_job(parse_training(text)).editor.params == plain(spec)
