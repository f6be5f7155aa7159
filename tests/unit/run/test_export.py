"""From a patch file or a finished sweep to a folder that other programs load."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from editsweep.data import registry
from editsweep.errors import ConfigError, EditError, StoreError
from editsweep.model.about import About
from editsweep.model.catalogue import resolve as resolve_model
from editsweep.model.export import PATCH_FILE
from editsweep.model.load import load
from editsweep.model.merge import save_patch
from editsweep.model.patch import Dense, LowRank, Patch, difference
from editsweep.model.restrain import rect
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.export import Choice, export, from_file, from_sweep
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

EDITS = Path(__file__).parents[2] / "data" / "edits.jsonl"
SWEEP = f"""
name: s
models: [tiny-gpt2]
editors:
  - none
  - {{name: ft, steps: 3}}
  - {{name: ft, steps: 3, restrain: rect}}
  - {{name: rome, moment: identity, contexts: 2, steps: 2}}
datasets: [{{name: "{EDITS}", limit: 4}}]
regimes: [single]
metrics: {{generate: [], max_new_tokens: 2}}
"""
DATA = str(EDITS)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The folder of a finished sweep, and a cache."""
    place = tmp_path_factory.mktemp("sweep")
    options = RunOptions(executor="inline", threads=1, record=False, cache=place / "cache")
    for name, settings in {
        "s": (),
        "b": ("regimes=[{batch: 2}]", "editors=[{name: ft, steps: 3}]"),
    }.items():
        done = run_sweep(parse_sweep(SWEEP, settings), place / name, options)
        assert done.edits_failed == 0
    return place


def plan_of(folder):
    return json.loads((folder / "plan.json").read_text())


def edits_of(folder, cell):
    """The rows of one cell, in order."""
    store = SweepStore(folder)
    rows = store.table("edits", store.committed()).to_pylist()
    (cell_id,) = [c["cell_id"] for c in plan_of(folder)["cells"] if c["label"] == cell]
    return sorted((r for r in rows if r["cell_id"] == cell_id), key=lambda r: r["position"])


def changed_plan(folder, target, **fields):
    """A copy of the sweep whose plan says something else of every cell."""
    target.mkdir()
    plan = plan_of(folder)
    for cell in plan["cells"]:
        cell.update(fields)
    (target / "plan.json").write_text(json.dumps(plan))
    return target


def test_a_sequence_is_exported_as_it_was_kept(sweep, tmp_path):
    options = RunOptions(executor="inline", threads=1, record=False, cache=sweep / "cache")
    settings = ("regimes=[{sequential: {size: 1, every: 2}}]", "editors=[{name: ft, steps: 3}]")
    run_sweep(parse_sweep(SWEEP, settings), tmp_path / "q", options)
    found = from_sweep(tmp_path / "q", Choice(), sweep / "cache")
    assert "after 4 of 4 edits" in found.notes[0]
    weights = {name: found.model.weight(name).clone() for name in found.patch.adds}
    export(found, "checkpoint", tmp_path / "c")
    edited = load(str(tmp_path / "c"))
    for name, weight in weights.items():
        wanted = weight + found.patch.adds[name].delta()
        torch.testing.assert_close(edited.weight(name), wanted)
    with pytest.raises(ConfigError, match="is a sequence"):
        from_sweep(tmp_path / "q", Choice(group=1), sweep / "cache")
    for state in (tmp_path / "q" / "chains").rglob("*.safetensors"):
        state.unlink()
    with pytest.raises(StoreError, match="no whole state"):
        from_sweep(tmp_path / "q", Choice(), sweep / "cache")


@pytest.mark.parametrize("cell", ["ft", "rome", "ft rect"])
def test_an_edit_of_a_sweep_is_made_again(sweep, cell):
    rows = edits_of(sweep / "s", cell)
    found = from_sweep(sweep / "s", Choice(cell, group=2, data=DATA), sweep / "cache")
    assert found.patch.norm == pytest.approx(rows[2]["patch_norm"], rel=1e-4)
    assert [r.subject for r in found.about.requests] == [rows[2]["subject"]]
    assert (found.about.editor, found.about.model.name) == (cell.split()[0], "tiny-gpt2")
    assert found.notes == ()
    by_id = Choice(cell, edit=rows[2]["edit_id"][:12], data=DATA)
    again = from_sweep(sweep / "s", by_id, sweep / "cache")
    assert difference(again.patch, found.patch) == 0


def test_the_restraint_of_a_cell_is_applied(sweep):
    plain, restrained = (
        from_sweep(sweep / "s", Choice(cell, group=0, data=DATA), sweep / "cache")
        for cell in ("ft", "ft rect")
    )
    assert difference(rect(plain.model, plain.patch), restrained.patch) == 0
    assert (plain.about.restrain, restrained.about.restrain) == (None, {"rect": 0.4})


def test_a_batch_cell_gives_the_patch_of_the_whole_group(sweep):
    rows = edits_of(sweep / "b", "ft")
    found = from_sweep(sweep / "b", Choice(edit=rows[3]["edit_id"], data=DATA), sweep / "cache")
    assert [r.subject for r in found.about.requests] == [row["subject"] for row in rows[2:]]
    assert found.patch.norm == pytest.approx(rows[3]["patch_norm"], rel=1e-4)


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (Choice(), "name one cell with --cell: 'none', 'ft', 'ft rect', 'rome'"),
        (Choice("fd"), "unknown cell 'fd'; did you mean 'ft'"),
        (Choice("ft", group=0), "read from a file of yours, as dataset 'edits'"),
        (Choice("ft", data=DATA), "choose one with --edit ID or --group 0 to 3"),
        (Choice("ft", group=4, data=DATA), "has groups 0 to 3"),
        (Choice("ft", edit="zz", data=DATA), "no edits of 'ft' have an id"),
        (Choice("ft", edit="", data=DATA), "4 edits of 'ft' have an id"),
        (Choice("ft", group=0, data="lecture"), "holds other edits than the sweep had"),
        (Choice("ft", group=0, data=DATA, model="tiny-llama"), "tiny-llama is c25b"),
        (Choice("ft", group=0, data=DATA, model="tiny-lama"), "did you mean 'tiny-llama'"),
    ],
)
def test_a_choice_that_leads_nowhere_says_what_to_choose(sweep, choice, told):
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
        from_sweep(sweep / "s", choice, sweep / "cache")


def test_what_a_plan_cannot_say_is_asked_for(sweep, tmp_path):
    with pytest.raises(StoreError, match=r"has no plan\.json"):
        from_sweep(tmp_path, Choice())
    chain = changed_plan(sweep / "s", tmp_path / "chain", regime="together:4")
    with pytest.raises(ConfigError, match="regime `together` cannot be exported"):
        from_sweep(chain, Choice("ft", data=DATA))
    moved = changed_plan(sweep / "s", tmp_path / "moved", model="my-model")
    with pytest.raises(ConfigError, match=r"unknown model 'my-model'.* name it with --model"):
        from_sweep(moved, Choice("ft", group=0, data=DATA))
    found = from_sweep(moved, Choice("ft", group=0, data=DATA, model="tiny-gpt2"))
    assert found.about.model.name == "tiny-gpt2"
    trusting = changed_plan(sweep / "s", tmp_path / "trusting", trust_remote_code=True)
    with pytest.raises(ConfigError, match="only `run` runs such code"):
        from_sweep(trusting, Choice("ft", group=0, data=DATA))


def test_the_precision_of_the_sweep_is_kept_and_another_version_is_told(sweep, tmp_path):
    other = changed_plan(sweep / "s", tmp_path / "half", model_dtype="bfloat16")
    plan = plan_of(other)
    (other / "plan.json").write_text(json.dumps({**plan, "code": "0.0.9"}))
    found = from_sweep(other, Choice("ft", group=0, data=DATA))
    assert found.model.module.dtype == torch.bfloat16
    assert "run by EditSweep 0.0.9" in found.notes[0]


def test_a_shipped_dataset_needs_no_file(sweep, tmp_path):
    data = registry.load("lecture", limit=2)
    said = {"dataset": "lecture", "split": data.split, "dataset_digest": data.digest, "edits": 2}
    found = from_sweep(changed_plan(sweep / "s", tmp_path / "l", **said), Choice("ft", group=1))
    assert found.about.requests[0].edit_id == data.requests[1].edit_id


def test_an_edit_that_fails_is_not_exported(sweep, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text('{"prompt": "Lyon is in", "target_new": "Japan"}\n', encoding="utf-8")
    data = registry.load(str(path))
    said = {"split": data.split, "dataset_digest": data.digest, "edits": 1}
    odd = changed_plan(sweep / "s", tmp_path / "odd", **said)
    with pytest.raises(EditError, match="no_subject"):
        from_sweep(odd, Choice("rome", data=str(path)), sweep / "cache")


def test_an_editor_that_changes_nothing_leaves_nothing_behind(sweep, tmp_path):
    found = from_sweep(sweep / "s", Choice("none", group=0, data=DATA))
    with pytest.raises(ConfigError, match="changes no weight"):
        export(found, "checkpoint", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def kept(model, path, entry=None):
    """A patch of `model` in a file."""
    name = model.mlp_out(0)
    d_out, d_in = model.weight(name).shape
    patch = Patch({name: LowRank(torch.ones(1, d_in), torch.ones(1, d_out))})
    save_patch(patch, path, About(entry or resolve_model(model.name)).to_json())
    return patch


def test_a_patch_file_knows_its_model(tmp_path):
    model, path = load("tiny-gptj"), tmp_path / "p.safetensors"
    patch = kept(model, path)
    found = from_file(path)
    assert (found.model.id, difference(found.patch, patch)) == (model.id, 0)
    with pytest.raises(ConfigError, match="name the same model with --model"):
        from_file(path, "tiny-llama")
    gone = replace(resolve_model("tiny-gptj"), source="path", location=str(tmp_path / "gone"))
    kept(model, path, gone)
    with pytest.raises(ConfigError, match=r"no folder .*gone.*name it with --model"):
        from_file(path)
    assert from_file(path, "tiny-gptj").about.model.source == "random"


def test_a_patch_file_that_says_nothing_needs_a_model(tmp_path):
    path = tmp_path / "bare.safetensors"
    save_patch(Patch({"x": Dense(torch.ones(2, 2))}), path)
    with pytest.raises(ConfigError, match="does not say which model"):
        from_file(path)
    assert from_file(path, "tiny-llama").about.base == "tiny-llama"


def test_an_export_of_an_export_is_the_same_and_nothing_is_overwritten(tmp_path):
    patch = kept(load("tiny-gptj"), tmp_path / "p.safetensors")
    found = from_file(tmp_path / "p.safetensors")
    (tmp_path / "one").mkdir()
    files = export(found, "patch", tmp_path / "one")
    assert files.keys() == {"README.md", PATCH_FILE}
    assert all(size > 0 for size in files.values())
    again = from_file(tmp_path / "one" / PATCH_FILE)
    assert again.about == found.about
    assert difference(again.patch, patch) == 0
    with pytest.raises(ConfigError, match="not empty: choose another --out"):
        export(found, "lora", tmp_path / "one")
    assert {path.name for path in (tmp_path / "one").iterdir()} == files.keys()
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "one").write_text("a file")
    with pytest.raises(ConfigError, match="is there already"):
        export(found, "lora", tmp_path / "one")
