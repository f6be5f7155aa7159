"""`check_editor` lets honest editors pass and says what is wrong with the others."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch

from editsweep.core.types import AXES
from editsweep.editors.base import Edited
from editsweep.errors import EditError
from editsweep.model.patch import LowRank, Patch
from editsweep.testing import check_editor, tiny_model, tiny_requests

REGIMES = frozenset({"single", "batch"})


@dataclass(frozen=True)
class Spec:
    """An editor made of one function: (model, groups) -> results."""

    name: ClassVar[str] = "made-up"
    regimes: ClassVar[frozenset[str]] = REGIMES
    do: Callable[..., Any]

    def requirements(self):
        return {}

    def build(self, model, assets):
        do = self.do

        class Made:
            def edit(self, groups, seed):
                return do(model, groups)

        return Made()


def change(model, value):
    a = torch.full((1, 64), float(value))
    return Patch({model.mlp_out(1): LowRank(a, torch.ones(1, 32))})


def honest(model, groups):
    return [Edited(change(model, len(group[0].question))) for group in groups]


def raises(model, groups):
    if not all(request.subject for group in groups for request in group):
        raise EditError("no_subject", "there is none")
    return honest(model, groups)


def leaks(model, groups):
    return [Edited(change(model, len(groups))) for _ in groups]


def writes(model, groups):
    model.module.get_submodule(model.mlp_out(1)).weight[0, 0] += 1e-7
    return honest(model, groups)


def hooks(model, groups):
    model.blocks[0].register_forward_hook(lambda *_: None)
    return honest(model, groups)


def not_finite(model, groups):
    return [Edited(change(model, float("nan"))) for _ in groups]


def turned(model, groups):
    wrong = LowRank(torch.ones(1, 32), torch.ones(1, 64))
    return [Edited(Patch({model.mlp_out(1): wrong})) for _ in groups]


def short(model, groups):
    return honest(model, groups)[1:]


def refuses(_, groups):
    return [Edited(error=EditError("too_hard", "no")) for _ in groups]


calls = itertools.count(1)


def drifts(model, groups):
    return [Edited(change(model, next(calls))) for _ in groups]


@pytest.fixture(autouse=True)
def _as_json(monkeypatch):
    # A function is no JSON: what is checked here is the editor, the fields are below.
    monkeypatch.setattr("editsweep.testing.canonical_json", lambda _: "{}")


def test_an_honest_editor_passes():
    check_editor(Spec(honest))


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (raises, r"edit\(\) raised EditError.*comes back as"),
        (leaks, "alone and beside the others.* apart"),
        (writes, r"down_proj\.weight was written"),
        (hooks, "hooks were left on model.layers.0"),
        (not_finite, "not finite"),
        (turned, r"is \(32, 64\), its change \(64, 32\)"),
        (short, "3 results of 4 groups"),
        (refuses, "could not be edited: too_hard"),
        (drifts, "apart"),
    ],
)
def test_a_broken_editor_is_told_what_is_broken(do, message):
    with pytest.raises(AssertionError, match=message):
        check_editor(Spec(do), tiny_model())


@dataclass(frozen=True)
class Other(Spec):
    """Knows a regime that does not exist."""

    regimes: ClassVar[frozenset[str]] = frozenset({"sometimes"})


@dataclass(frozen=True)
class Unhashable(Spec):
    """Has a list."""

    layers: list[int] = field(default_factory=list)


def test_a_spec_that_is_not_plain_is_told_so(monkeypatch):
    with pytest.raises(AssertionError, match="sometimes"):
        check_editor(Other(honest))
    with pytest.raises(AssertionError, match=r"does not hash.*use tuples"):
        check_editor(Unhashable(honest))
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="not plain JSON"):
        check_editor(Spec(honest))


def test_tiny_requests_ask_on_every_axis_and_are_all_different():
    requests = tiny_requests(2160)
    assert requests[:3] == tiny_requests(3)
    assert len({r.edit_id for r in requests}) == len({r.subject for r in requests}) == 2160
    for request in requests:
        assert {p.axis for p in request.all_probes} == set(AXES)
        assert request.target_new != request.target_true
    with pytest.raises(ValueError, match="2160"):
        tiny_requests(2161)
