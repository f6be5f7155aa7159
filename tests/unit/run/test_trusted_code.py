"""Code that lies beside a model's weights: it runs only where the sweep file says so, on record."""

import json
import sys
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from editsweep.errors import ModelError
from editsweep.model import families
from editsweep.model.catalogue import resolve as resolve_model
from editsweep.model.load import load
from editsweep.model.tiny import tiny_model
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.plan import make_plan
from editsweep.run.resolve import resolve
from editsweep.run.sweep import parse_sweep

CONFIGURATION = """
from transformers import LlamaConfig


class OwnConfig(LlamaConfig):
    pass
"""
MODELLING = """
from transformers import LlamaForCausalLM

from .own_config import OwnConfig


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny model that only code of its own can load."""
    modules = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    row = next(family for family in families.FAMILIES if "llama" in family.model_types)
    known = (*families.FAMILIES, replace(row, name="own", model_types=("own",)))
    monkeypatch.setattr(families, "FAMILIES", known)
    made = tmp_path / "own"
    model = tiny_model("llama")
    model.module.save_pretrained(made)
    model.tokenizer.save_pretrained(made)
    (made / "own_config.py").write_text(CONFIGURATION)
    (made / "own_model.py").write_text(MODELLING)
    names = {"AutoConfig": "own_config.OwnConfig", "AutoModelForCausalLM": "own_model.OwnModel"}
    change(made, model_type="own", auto_map=names)
    return made


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def sweep_of(folder, trust):
    text = f"""
name: t
models: [{{name: "{folder}", trust_remote_code: {trust}}}]
editors: [none]
datasets: [{{name: world, limit: 1}}]
metrics: {{max_new_tokens: 2, generate: []}}
"""
    return parse_sweep(text)


def test_code_of_a_model_is_not_run_unless_allowed(folder):
    with pytest.raises(ModelError, match="trust_remote_code: true"):
        load(str(folder))
    assert type(load(resolve_model(str(folder), trust_remote_code=True)).module).__name__ == (
        "OwnModel"
    )


def test_code_of_another_repository_is_never_run(folder):
    change(folder, auto_map={"AutoConfig": "somebody/else--own_config.OwnConfig"})
    with pytest.raises(ModelError, match="another repository"):
        load(resolve_model(str(folder), trust_remote_code=True))


def test_the_revision_covers_the_code_that_is_run(folder):
    before = [resolve_model(str(folder), code).revision for code in (False, True)]
    (folder / "own_model.py").write_text(MODELLING + "\n# changed\n")
    after = [resolve_model(str(folder), code).revision for code in (False, True)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]


def test_nothing_is_said_of_code_that_is_not_run(folder):
    plan = make_plan(resolve(sweep_of(folder, "false")))
    assert plan.trusted == []
    assert "trust" not in json.dumps([plan.to_json(), plan.resolved])
    (base,) = plan.bases.values()
    assert len(base.model.entry.described) == 3


class Told:
    """Keeps what a run says."""

    def __init__(self):
        self.lines = []

    def update(self, now):
        """Nothing."""

    def say(self, message):
        self.lines.append(message)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # mlflow's
def test_a_sweep_that_runs_code_says_so_everywhere(folder, tmp_path):
    out, told = tmp_path / "runs" / "t", Told()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    options = RunOptions(executor="inline", tracking_uri=uri, cache=tmp_path / "cache")
    result = run_sweep(sweep_of(folder, "true"), out, options, told)
    assert (result.exit_code, result.record_error) == (0, "")
    (warning,) = [line for line in told.lines if "trust_remote_code" in line]
    assert str(folder) in warning
    assert json.loads((out / "plan.json").read_text())["cells"][0]["trust_remote_code"] is True
    assert "trust_remote_code: true" in (out / "sweep.lock.yaml").read_text()
    assert "ran code of its own repository" in (out / "report.html").read_text()
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    runs = client.search_runs([experiment.experiment_id])
    assert [run.data.params.get("trust_remote_code") for run in runs].count("true") == 1
