"""Edits that belong together, by editors that make one at a time."""

from dataclasses import replace

import pytest
import torch

from editsweep.core.types import Regime
from editsweep.editors.base import Edited
from editsweep.editors.ft import FtSpec
from editsweep.editors.rome import RomeSpec
from editsweep.errors import EditError
from editsweep.model.asset import Asset
from editsweep.model.merge import merged
from editsweep.model.patch import Dense, Patch, added, difference
from editsweep.run.evaluate import AskSettings, UnitIds, ask_base, evaluate
from editsweep.run.in_turn import in_turn
from editsweep.testing import tiny_model, tiny_requests

SPEC = RomeSpec(moment="identity", contexts=0, steps=3)
ASSETS = {"contexts": Asset(meta={"templates": []})}


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def rome(model):
    return in_turn(SPEC.build(model, ASSETS), SPEC, model)


def test_an_editor_for_batches_is_left_as_it_is(model):
    editor = FtSpec().build(model, {})
    assert in_turn(editor, FtSpec(), model) is editor


def test_each_edit_is_made_on_top_of_those_before_it(model, rome):
    group = tiny_requests(3)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    (edited,) = rome.edit([group], 0)
    total = Patch()
    for request in group:
        with merged(model, total):
            (one,) = SPEC.build(model, ASSETS).edit([[request]], 0)
        total = added(total, one.patch)
    assert difference(edited.patch, total) == 0
    apart = [one.patch for one in rome.edit([[request] for request in group], 0)]
    assert difference(edited.patch, added(added(*apart[:2]), apart[2])) > 1e-3
    assert edited.steps == 9
    assert all(torch.equal(t, before[name]) for name, t in model.module.state_dict().items())


def test_a_case_is_the_same_alone_and_beside_others(rome):
    requests = tiny_requests(6)
    groups = [requests[:3], requests[3:4], requests[4:]]
    together = rome.edit(groups, 0)
    for group, edited in zip(groups, together, strict=True):
        (alone,) = rome.edit([group], 0)
        assert difference(alone.patch, edited.patch) < 1e-4


class Picky:
    """Adds 1 at a place of its own for each edit but those of `refuse`."""

    def __init__(self, model, refuse):
        self.name, self.model, self.refuse = model.mlp_out(0), model, refuse

    def edit(self, groups, seed):
        return [self._edit(request) for (request,) in groups]

    def _edit(self, request):
        if request.subject in self.refuse:
            return Edited(error=EditError("refused", f"not {request.subject}"))
        change = torch.zeros_like(self.model.weight(self.name))
        change[len(request.subject), 0] = 1
        return Edited(Patch({self.name: Dense(change)}))


def test_one_that_cannot_be_made_is_left_out_and_all_of_them_fail_the_case(model):
    group = tiny_requests(3)
    names = [request.subject for request in group]
    one = in_turn(Picky(model, names[1:2]), SPEC, model)
    (edited,) = one.edit([group], 0)
    assert edited.error is None
    assert {index: error.kind for index, error in edited.left_out.items()} == {1: "refused"}
    assert edited.patch.norm > 0
    (failed,) = in_turn(Picky(model, names), SPEC, model).edit([group], 0)
    assert failed.error.reason == f"not {names[0]}"
    assert failed.patch is None


def test_rows_of_a_case_say_what_became_of_each_edit(model):
    group = [replace(request, case="7") for request in tiny_requests(3)]
    settings, ids = AskSettings((), 2), UnitIds("s", "c", "u", 4, 2)
    editor = in_turn(Picky(model, [group[1].subject]), SPEC, model)
    base = ask_base(model, group, settings)
    tables = evaluate(model, editor, Regime().groups(group), base, ids, 0, settings)
    rows = tables["edits"].to_pylist()
    assert [row["error_kind"] for row in rows] == [None, "refused", None]
    assert [(row["position"], row["group"], row["case"]) for row in rows] == [
        (4, 2, "7"),
        (5, 2, "7"),
        (6, 2, "7"),
    ]
    lost = {r["edit_id"] for r in tables["measurements"].to_pylist() if r["status"] == "refused"}
    assert lost == {group[1].edit_id}


def test_a_step_of_several_in_a_sequence_is_made_in_turn_too(model, rome):
    group = tiny_requests(2)
    edited, state = rome.edit_next(group, {}, 0)
    assert state == {}
    assert difference(edited.patch, rome.edit([group], 0)[0].patch) == 0
