"""Every registered editor, asked the same questions on a tiny model of every family."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import ClassVar

import pytest
import torch

from editsweep.editors import EDITORS
from editsweep.editors.base import Edited
from editsweep.errors import EditError
from editsweep.model.families import FAMILIES
from editsweep.model.patch import LowRank, Patch, difference
from editsweep.run.in_turn import in_turn
from editsweep.testing import _assets as assets_of
from editsweep.testing import check_editor, tiny_model, tiny_requests


@pytest.mark.parametrize("model_type", [family.model_types[0] for family in FAMILIES])
@pytest.mark.parametrize("name", EDITORS.names())
def test_editor(name, model_type, quick):
    spec = quick(EDITORS.load(name)())
    assert spec.name == name
    check_editor(spec, tiny_model(model_type))


SEVERAL = [n for n in EDITORS.names() if {"batch", "sequential"} & EDITORS.load(n).regimes]


@pytest.mark.parametrize("name", SEVERAL)
def test_a_case_is_the_same_beside_cases_of_other_sizes(name, quick):
    model, spec = tiny_model(), quick(EDITORS.load(name)())
    editor = in_turn(spec.build(model, assets_of(spec, model)), spec, model)
    requests = tiny_requests(7)
    cases = [requests[:3], requests[3:4], requests[4:6], requests[6:]]
    for case, edited in zip(cases, editor.edit(cases, 0), strict=True):
        assert edited.error is None
        (alone,) = editor.edit([case], 0)
        assert difference(alone.patch, edited.patch) < 1e-4


LAYER = 1
CALLS = count()


def rank_one(model, scale=1.0, d_in=None):
    """A patch of the right shape whose numbers are all `scale`."""
    d_out, width = model.weight(model.mlp_out(LAYER)).shape
    a, b = torch.full((1, d_in or width), float(scale)), torch.ones(1, d_out)
    return Edited(Patch({model.mlp_out(LAYER): LowRank(a, b)}))


def honest(model, groups):
    return [rank_one(model) for _ in groups]


def looks_at_its_neighbours(model, groups):
    return [rank_one(model, scale=len(groups)) for _ in groups]


def draws_without_the_seed(model, groups):
    return [rank_one(model, scale=next(CALLS)) for _ in groups]


def writes_the_model(model, groups):
    with torch.no_grad():
        model.weight(model.mlp_out(LAYER))[0, 0] += 1
    return honest(model, groups)


def leaves_a_hook(model, groups):
    model.module.register_forward_hook(print)
    return honest(model, groups)


def leaves_gradients_on(model, groups):
    model.weight(model.mlp_out(LAYER)).requires_grad_(True)
    return honest(model, groups)


def raises(model, groups):
    if len(groups) > 1:
        raise RuntimeError("too many")
    return honest(model, groups)


def forgets_one(model, groups):
    return honest(model, groups)[1:]


def fails_whole_groups(model, groups):
    def one(group):
        if all(request.target_new for request in group):
            return rank_one(model)
        return Edited(error=EditError("no_target", "nothing to say"))

    return [one(group) for group in groups]


def leaves_out_in_silence(model, groups):
    failed = fails_whole_groups(model, groups)
    return [
        rank_one(model) if len(group) > 1 else one
        for group, one in zip(groups, failed, strict=True)
    ]


def is_not_finite(model, groups):
    return [rank_one(model, scale=float("nan")) for _ in groups]


def has_the_wrong_shape(model, groups):
    return [rank_one(model, d_in=3) for _ in groups]


@dataclass(frozen=True)
class Made:
    """A spec whose editor is one of the functions above."""

    name: ClassVar[str] = "made"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch"})

    def requirements(self):
        return {}

    def build(self, model, assets):
        return Editing(BEHAVIOUR[type(self)], model)


@dataclass
class Editing:
    behaviour: Callable
    model: object

    def edit(self, groups, seed):
        return self.behaviour(self.model, groups)


@dataclass(eq=False)
class Thawed:
    """A spec that anyone can change after it has been hashed."""

    name: ClassVar[str] = "thawed"
    regimes: ClassVar[frozenset[str]] = frozenset({"single"})
    requirements = Made.requirements
    build = Made.build


@dataclass(frozen=True)
class Opaque(Made):
    """A spec that no log can hold."""

    sizes: frozenset[int] = frozenset({1, 2})


BEHAVIOUR = {Made: honest}


def test_an_honest_editor_passes():
    check_editor(Made())


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (looks_at_its_neighbours, "alone and beside"),
        (draws_without_the_seed, "apart"),
        (writes_the_model, "was written"),
        (leaves_a_hook, "hooks were left"),
        (leaves_gradients_on, "requires_grad"),
        (raises, "raised RuntimeError: too many"),
        (forgets_one, "3 results of 4 groups"),
        (fails_whole_groups, "and without it: .*nothing to say"),
        (leaves_out_in_silence, "leaves out {}"),
        (is_not_finite, "not finite"),
        (has_the_wrong_shape, "its change"),
    ],
)
def test_a_broken_promise_is_told(behaviour, told, monkeypatch):
    monkeypatch.setitem(BEHAVIOUR, Made, behaviour)
    with pytest.raises(AssertionError, match=told):
        check_editor(Made())


@pytest.mark.parametrize(
    ("spec", "told"), [(Thawed(), "frozen dataclass"), (Opaque(), "not plain JSON")]
)
def test_a_spec_that_cannot_be_logged_and_sent_is_told(spec, told):
    with pytest.raises(AssertionError, match=told):
        check_editor(spec)
