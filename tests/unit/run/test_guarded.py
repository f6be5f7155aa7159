"""What an editor is not given, and what of its own is not taken; places are those of the whole group."""

import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.editors.base import Edited
from editsweep.errors import EditError
from editsweep.model.asking import AskSettings, no_room
from editsweep.model.patch import Dense, Patch
from editsweep.run.guarded import guarded
from editsweep.testing import tiny_model, tiny_requests

SETTINGS = AskSettings(("reliability",), 8)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


class Leaving:
    """Leaves the first of each group out; its change is `number`, and it counts its steps."""

    def __init__(self, number=1.0):
        self.number, self.seen = number, []

    def edit(self, groups, seed):
        assert groups
        return [self.edit_next(group, {}, seed)[0] for group in groups]

    def edit_next(self, group, state, seed):
        self.seen.append(list(group))
        patch = Patch({"m": Dense(torch.full((2, 2), self.number))})
        return Edited(patch, left_out={0: EditError("own", "no")}), {"steps": torch.ones(1)}


def long(request):
    return EditRequest.of(request.subject, "{} " + "is in " * 5000, request.target_new)


def kinds(edited):
    return {place: error.kind for place, error in edited.left_out.items()}


def test_what_is_left_out_has_its_place_in_the_whole_group(model):
    one, two, three = tiny_requests(3)
    editor = Leaving()
    found = guarded(editor, model, SETTINGS).edit([[long(one), two, three], [one], [long(two)]], 0)
    assert editor.seen == [[two, three], [one]]
    assert [kinds(edited) for edited in found] == [{0: "too_long", 1: "own"}, {0: "own"}, {}]
    assert found[2].error.kind == "too_long"


def test_an_editor_is_not_called_for_nothing(model):
    editor = Leaving()
    (edited,) = guarded(editor, model, SETTINGS).edit([[long(tiny_requests(1)[0])]], 0)
    assert (edited.error.kind, editor.seen) == ("too_long", [])


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_change_that_is_not_finite_is_refused_and_leaves_the_state(model, number):
    group, before = tiny_requests(1), {"steps": torch.zeros(1)}
    editor = guarded(Leaving(number), model, SETTINGS)
    assert editor.edit([group], 0)[0].error.kind == "not_finite"
    edited, after = editor.edit_next(group, before, 0)
    assert edited.error.kind == "not_finite"
    assert after is before


def test_the_answer_and_what_is_spoken_count_as_well(model):
    limit = model.module.config.max_position_embeddings
    words = "é" * (limit // 2 - 12)
    tokens = len(model.tokenizer(f"Ada {words}")["input_ids"])
    request = EditRequest.of("Ada", f"{{}} {words}", "x")
    for room in (limit - tokens, limit - tokens + 1):
        error = no_room(model, request, AskSettings(("reliability",), room))
        assert (error is None) == (room + tokens <= limit)
