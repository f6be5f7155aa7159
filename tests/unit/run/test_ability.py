"""Tasks of lm-evaluation-harness with and without a patch, from files of the repository, offline.

They are asked in a process of their own, which starts in the repository's root as people do: the
`datasets/` folder there must not pass for the library of that name, which the harness needs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

ASK = """
import dataclasses, json, pathlib
import torch
from editsweep.errors import ConfigError
from editsweep.model.load import load
from editsweep.model.patch import Dense, Patch
from editsweep.run.ability import TaskChoice, ability

folder = pathlib.Path("tests/data/ability")
model = load("tiny-llama")
name = "model.layers.1.mlp.down_proj"
weight = model.weight(name)
torch.manual_seed(0)
change = torch.randn_like(weight)
before = {k: v.clone() for k, v in model.module.state_dict().items()}
pad = model.tokenizer.pad_token, model.tokenizer.padding_side

def ask(patch, *names, limit=None):
    found = ability(model, patch, TaskChoice(names, folder, limit, 4))
    return [dataclasses.asdict(row) | {"difference": row.difference} for row in found]

def refused(patch, *names):
    try:
        ask(patch, *names)
    except ConfigError as error:
        return str(error)

told = {
    "edited": ask(Patch({name: Dense(change)}), "local_cities", "local_spoken", "local_texts"),
    "led": ask(Patch(prefix="Oslo is in Peru.\\n"), "local_cities", "local_spoken"),
    "few": ask(None, "local_prefixed", "local_cities", limit=4),
    "prefixed": ask(None, "local_prefixed"),
    "whole": refused(Patch(prefix="Oslo is in Peru."), "local_texts"),
    "unknown": refused(None, "local_citis"),
}
after = model.module.state_dict()
told["same"] = all(torch.equal(after[k], v) for k, v in before.items())
told["pad"] = (model.tokenizer.pad_token, model.tokenizer.padding_side) == pad
with torch.no_grad():
    weight.add_(change)
told["written"] = ask(None, "local_cities", "local_spoken", "local_texts")
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the harness said."""
    kept = tmp_path_factory.mktemp("kept")
    env = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"},
        "PYTHONPATH": str(ROOT / "pipeline"),
        "EDITSWEEP_CACHE": str(kept / "editsweep"),
        "HF_HOME": str(kept / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def values(rows, side):
    return {(row["task"], row["metric"]): (row[side], row[f"{side}_stderr"]) for row in rows}


def test_both_sides_of_every_metric(told):
    rows = {(row["task"], row["metric"]): row for row in told["edited"]}
    assert list(rows) == [
        ("local_cities", "acc"),
        ("local_cities", "brier_score"),
        ("local_spoken", "exact_match"),
        ("local_texts", "bits_per_byte"),
    ]
    assert {row["samples"] for row in rows.values()} == {6}
    acc, texts = rows["local_cities", "acc"], rows["local_texts", "bits_per_byte"]
    assert 0 < acc["unedited_stderr"] < 0.5
    assert texts["unedited_stderr"] is None
    assert texts["difference"] == pytest.approx(texts["edited"] - texts["unedited"])
    assert abs(texts["difference"]) > 0.01


def test_the_patch_is_measured_as_if_it_were_in_the_weights(told):
    assert values(told["edited"], "edited") == values(told["written"], "unedited")
    assert {row["edited"] for row in told["written"]} == {None}
    assert told["same"]
    assert told["pad"]


def test_a_prompt_stands_before_each_question(told):
    led, prefixed = values(told["led"], "edited"), values(told["prefixed"], "unedited")
    key = ("local_cities", "brier_score")
    assert led[key] == pytest.approx(prefixed["local_prefixed", "brier_score"])
    assert led[key] != values(told["led"], "unedited")[key]
    assert "no place for a patch that is a prompt" in " ".join(told["whole"].split())


def test_tasks_are_found_by_name_and_cut(told):
    assert "did you mean 'local_cities'?" in told["unknown"]
    assert {row["samples"] for row in told["few"]} == {4}
    assert {row["task"] for row in told["few"]} == {"local_prefixed", "local_cities"}
