"""An editor short of memory does what it does with plenty, and says what never fits."""

import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.editors import EDITORS
from editsweep.editors.base import Edited
from editsweep.model.patch import difference
from editsweep.run.halving import halving
from editsweep.run.in_turn import in_turn
from editsweep.testing import _assets as assets_of
from editsweep.testing import tiny_model, tiny_requests


class Tight:
    """An editor with memory for so many edits at once, which is known when it has edited."""

    def __init__(self, editor, most):
        self.editor, self.most, self.tried = editor, most, []

    def edit(self, groups, seed):
        done = self.editor.edit(groups, seed)
        self.tried.append(sum(map(len, groups)))
        if self.tried[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        return done


@pytest.mark.parametrize("name", EDITORS.names())
def test_no_editor_gives_other_patches_when_its_groups_are_divided(name, quick):
    model, spec = tiny_model(), quick(EDITORS.load(name)())
    editor = in_turn(spec.build(model, assets_of(spec, model)), spec, model)
    groups = [[request] for request in tiny_requests(5)]
    groups.insert(2, [EditRequest.of("Ada", "{} lives in", "")])  # one that many cannot do
    tight = Tight(editor, 2)
    found = halving(tight).edit(groups, 0)
    assert tight.tried == [6, 3, 1, 2, 3, 1, 2]
    for one, whole in zip(found, editor.edit(groups, 0), strict=True):
        assert (one.error is None) == (whole.error is None)
        assert (one.patch is None) == (whole.patch is None)
        assert one.steps == whole.steps
        assert difference(one.patch, whole.patch) <= 1e-4


class Fixed:
    def edit(self, groups, seed):
        return [Edited(steps=len(group)) for group in groups]


def test_a_group_that_never_fits_fails_and_its_neighbours_do_not():
    small, large = tiny_requests(1), tiny_requests(9)
    found = halving(Tight(Fixed(), 8)).edit([small, large, small, small], 0)
    assert [one.steps for one in found] == [1, None, 1, 1]
    assert found[1].error.kind == "out_of_memory"
    assert found[1].error.reason == (
        "this group of 9 edits does not fit into memory: CUDA out of memory. Tried to allocate 2 GiB"
    )
    assert halving(Fixed()).edit([], 0) == []


def test_a_step_of_a_sequence_that_does_not_fit_leaves_its_state():
    state = {"seen": torch.ones(2)}
    edited, after = halving(Tight(Fixed(), 0)).edit_next(tiny_requests(1), state, 0)
    assert edited.error.kind == "out_of_memory"
    assert after is state
    edited, after = halving(Tight(Fixed(), 9)).edit_next(tiny_requests(1), state, 0)
    assert (edited.steps, after) == (1, state)


def test_other_errors_go_through():
    class Broken:
        def edit(self, groups, seed):
            raise RuntimeError("a shape is wrong")

    with pytest.raises(RuntimeError, match="shape"):
        halving(Broken()).edit([tiny_requests(1)], 0)
