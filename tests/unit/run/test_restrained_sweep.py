"""`restrain` of a sweep file, from the key to the numbers."""

import json
from pathlib import Path

import pytest
import torch

from editsweep.editors.base import Edited
from editsweep.errors import ConfigError, EditError
from editsweep.model.asking import AskSettings
from editsweep.model.load import load
from editsweep.model.patch import Dense, Patch
from editsweep.model.restrain import Restraint, rect
from editsweep.run.evaluate import UnitIds, ask_base, evaluate
from editsweep.run.plan import make_plan
from editsweep.run.resolve import resolve
from editsweep.run.sweep import parse_sweep

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
        return evaluate(model, _Kept(*outcomes), groups, base, ids, 0, settings, restrain)

    restrained = tables(Edited(patch), Edited(broken), restrain=Restraint("rect", 0.2))
    by_hand = tables(Edited(rect(model, patch, 0.2)), Edited(error=EditError("", "")))
    rows, wanted = (t["edits"].to_pylist() for t in (restrained, by_hand))
    assert rows[0]["patch_norm"] == wanted[0]["patch_norm"] < patch.norm
    assert (rows[1]["status"], rows[1]["error_kind"]) == ("failed", "not_finite")
    first = [
        [row for row in t["answers"].to_pylist() if row["edit_id"] == groups[0][0].edit_id]
        for t in (restrained, by_hand)
    ]
    assert first[0] == first[1]
