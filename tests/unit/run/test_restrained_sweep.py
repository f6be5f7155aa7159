"""`restrain` of a sweep file, from the key to the numbers."""

import json
from pathlib import Path

import pytest
import torch

from editsweep.editors.base import Edited, edit_next
from editsweep.errors import ConfigError, EditError
from editsweep.model.asking import AskSettings
from editsweep.model.load import load
from editsweep.model.patch import Dense, Patch, difference
from editsweep.model.restrain import Restraint, rect
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.evaluate import UnitIds, ask_base, evaluate
from editsweep.run.plan import make_plan
from editsweep.run.resolve import resolve
from editsweep.run.restrained import restrained
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

EDITS = Path(__file__).parents[2] / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors:
  - {{name: ft, steps: 3}}
  - {{name: ft, steps: 3, restrain: rect}}
  - {{name: ft, steps: 3, restrain: {{rect: 0.2}}}}
  - {{name: ft, steps: 3, restrain: prune, label: mine}}
datasets: [{{name: "{EDITS}", limit: 2}}]
"""


def plan(settings=()):
    return make_plan(resolve(parse_sweep(SWEEP, settings)))


def test_each_restraint_is_a_cell_of_its_own_and_says_so():
    made = plan()
    assert [c.label for c in made.cells.values()] == ["ft", "ft rect", "ft rect=0.2", "mine"]
    told = [cell.get("restrain") for cell in made.to_json()["cells"]]
    assert told == [None, {"rect": 0.4}, {"rect": 0.2}, {"prune": pytest.approx(2.718281828)}]
    assert [e.get("restrain") for e in made.resolved["editors"]] == told
    json.dumps(made.to_json(), allow_nan=False)


def test_a_cell_without_a_restraint_keeps_its_id():
    (alone,) = plan(["editors=[{name: ft, steps: 3}]"]).cells.values()
    assert alone.cell_id in plan().cells
    assert alone.editor.described == ["ft", alone.editor.params]


@pytest.mark.parametrize(
    ("value", "told"),
    [("rekt", "did you mean 'rect'"), ("{rect: 2}", "the share to keep"), ("5", "write `rect`")],
)
def test_a_wrong_restraint_is_refused_before_anything_runs(value, told):
    with pytest.raises(ConfigError, match=rf"editors\[1\]\.restrain: .*{told}"):
        plan([f"editors[1].restrain={value}"])


class _Kept:
    """An editor that answers with patches made beforehand."""

    def __init__(self, *outcomes):
        self.outcomes = outcomes

    def edit(self, groups, seed):
        return list(self.outcomes)


def test_a_patch_is_restrained_before_it_is_asked():
    model, made = load("tiny-llama"), plan()
    (cell, *_), (unit, *_) = made.cells.values(), made.units
    groups = made.groups(unit)
    settings = AskSettings(())
    base = ask_base(model, [r for group in groups for r in group], settings)
    name = model.mlp_out(1)
    dice = torch.Generator().manual_seed(0)
    patch = Patch({name: Dense(torch.randn(model.weight(name).shape, generator=dice))})
    broken = Patch({name: Dense(torch.full_like(model.weight(name), float("inf")))})

    def tables(*outcomes, restrain=None):
        ids = UnitIds("s", cell.cell_id, unit.unit_id)
        editor = restrained(_Kept(*outcomes), model, restrain)
        return evaluate(model, editor, groups, base, ids, 0, settings)

    held = tables(Edited(patch), Edited(broken), restrain=Restraint("rect", 0.2))
    by_hand = tables(Edited(rect(model, patch, 0.2)), Edited(error=EditError("", "")))
    rows, wanted = (t["edits"].to_pylist() for t in (held, by_hand))
    assert rows[0]["patch_norm"] == wanted[0]["patch_norm"] < patch.norm
    assert (rows[1]["status"], rows[1]["error_kind"]) == ("failed", "not_finite")
    first = [
        [row for row in t["answers"].to_pylist() if row["edit_id"] == groups[0][0].edit_id]
        for t in (held, by_hand)
    ]
    assert first[0] == first[1]


class _Counting:
    """A chained editor that remembers how many edits it made; its third is not finite."""

    def __init__(self, model):
        self.name, self.shape = model.mlp_out(0), model.weight(model.mlp_out(0)).shape

    def edit_next(self, group, state, seed):
        step = int(state.get("step", torch.tensor(0))) + 1
        dice = torch.Generator().manual_seed(step)
        delta = torch.randn(self.shape, generator=dice) / (0 if step == 3 else 1)
        return Edited(Patch({self.name: Dense(delta)})), {"step": torch.tensor(step)}


def test_each_step_of_a_sequence_is_restrained_and_its_state_goes_on():
    model = load("tiny-llama")
    editor = restrained(_Counting(model), model, Restraint("rect", 0.3))
    state = {}
    for step in (1, 2):
        edited, state = edit_next(editor, [], state, 0)
        plain, _ = _Counting(model).edit_next([], {"step": torch.tensor(step - 1)}, 0)
        assert difference(edited.patch, rect(model, plain.patch, 0.3)) == 0
        assert int(state["step"]) == step
    edited, after = edit_next(editor, [], state, 0)
    assert edited.error.kind == "not_finite"
    assert after is state


def test_without_a_restraint_the_editor_is_itself():
    editor = _Kept()
    assert restrained(editor, load("tiny-llama"), None) is editor


def test_a_sweep_measures_restrained_patches(tmp_path):
    options = RunOptions(executor="inline", threads=1, record=False, cache=tmp_path / "cache")
    keep = ("editors[3]=none", "metrics={axes: [], generate: [], max_new_tokens: 2}")
    done = run_sweep(parse_sweep(SWEEP, keep), tmp_path / "t", options)
    assert done.edits_failed == 0
    store = SweepStore(done.folder)
    labels = {c["cell_id"]: c["label"] for c in plan(keep).to_json()["cells"]}
    norms = {}
    for row in store.table("edits", store.committed()).to_pylist():
        norms.setdefault(labels[row["cell_id"]], []).append(row["patch_norm"])
    assert norms["none"] == [None, None]
    pairs = zip(norms["ft"], norms["ft rect"], norms["ft rect=0.2"], strict=True)
    assert all(whole > some > few > 0 for whole, some, few in pairs)
