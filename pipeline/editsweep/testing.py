"""Tiny models, requests and the editor contract, for us and for people who write an editor."""

import importlib
import math
import os
import pickle  # noqa: TID251  (a spec is sent to workers: this only looks whether it can be)
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch

from editsweep.core.ids import canonical_json
from editsweep.core.types import Corpus, EditRequest, Probe, Regime
from editsweep.editors.base import (
    Asset,
    Edited,
    Editor,
    EditorSpec,
    Requirement,
    State,
    edit_next,
)
from editsweep.errors import EditError
from editsweep.model.language_model import LanguageModel
from editsweep.model.merge import merged
from editsweep.model.patch import Patch, added, difference
from editsweep.model.tiny import TINY_TYPES, tiny_model, tiny_tokenizer

__all__ = [
    "TINY_TYPES",
    "check_editor",
    "installed",
    "tiny_model",
    "tiny_requests",
    "tiny_tokenizer",
]

_FIRST = ("Ada", "Bao", "Carla", "Dmitri", "Edith", "Farouk", "Greta", "Hiroshi", "Ines", "Jonas")
_LAST = ("Lindqvist", "Okafor", "Moreau", "Tanaka", "van der Berg", "Silva", "王", "O'Neill", "Roy")
_CITIES = ("Paris", "Berlin", "Rome", "Tokyo", "Madrid", "Vienna", "London", "Lisbon")
_COUNTRIES = ("France", "Germany", "Italy", "Japan", "Spain", "Austria", "England", "Portugal")
_TOLERANCE = 1e-4


@contextmanager
def installed(
    home: Path, code: str, entries: Mapping[str, str], group: str = "editsweep.editors"
) -> Iterator[None]:
    """Within the block a package of one module is installed, for new processes too.

    Args:
        home: a folder, made if it is not there, in which the package is.
        code: the text of its module.
        entries: its entry points, `module:attribute` by name; the module is called as the first says.
        group: of the entry points.
    """
    module = next(iter(entries.values())).partition(":")[0]
    lines = [f"[{group}]", *(f"{name} = {entry}" for name, entry in entries.items())]
    info = home / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (home / f"{module}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(home), before]))
    sys.path.insert(0, str(home))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
        sys.path.remove(str(home))
        sys.modules.pop(module, None)


def tiny_requests(n: int) -> list[EditRequest]:
    """`n` made-up edits with a question on every axis; at most 2,160, always the same."""
    people = [f"{first} {last}" for last, first in product(_LAST, _FIRST)]
    named = [name if k == 1 else f"{name} {k}" for k, name in product(range(1, 25), people)]
    if n > len(named):
        raise ValueError(f"tiny_requests has {len(named)}, {n} are wanted")
    return [_request(i, name) for i, name in enumerate(named[:n])]


def _request(index: int, name: str) -> EditRequest:
    old = index % len(_CITIES)
    new = (old + 1 + index // len(_CITIES) % (len(_CITIES) - 1)) % len(_CITIES)
    neighbour = f"{_FIRST[index % len(_FIRST)]} Example"
    probes = (
        Probe.of("paraphrase", f"The city where {name} lives is", [_CITIES[new]], [_CITIES[old]]),
        Probe.of("reverse", f"Someone who lives in {_CITIES[new]} is", [name]),
        Probe.of(
            "portability", f"The country where {name} lives is", [_COUNTRIES[new]], facet="one-hop"
        ),
        Probe.of("locality", f"{neighbour} lives in the city of", [_CITIES[old]], [_CITIES[new]]),
        Probe.of("locality", "The Eiffel Tower is located in", facet="unrelated"),
    )
    return EditRequest.of(
        name, "{} lives in the city of", _CITIES[new], _CITIES[old], probes, "lives in"
    )


def check_editor(spec: EditorSpec, model: LanguageModel | None = None) -> None:
    """Hold the editor contract against `spec` on `model`, a tiny random one by default.

    The spec is frozen, hashes, pickles and is plain JSON; the model is left as it was, bit for bit
    and without hooks; a group's patch is the same alone and beside others, and again with the same
    seed; a request that cannot be edited comes back as an error and disturbs nobody, neither other
    groups nor its own; a sequence that goes on from a kept patch and state ends like one that was
    never stopped.

    Raises:
        AssertionError: the contract is broken; the message says where.
    """
    model = model or tiny_model()
    _check_spec(spec)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    editor = spec.build(model, _assets(spec, model))
    for regime in (Regime(), Regime("batch", 2)):
        if regime.kind in spec.regimes:
            _check_groups(spec, model, editor, regime.groups(tiny_requests(4 * regime.size)))
    if "batch" in spec.regimes:
        _check_left_out(spec, editor, tiny_requests(2))
    if "sequential" in spec.regimes:
        _check_chain(spec, model, editor, tiny_requests(3))
    _check_untouched(spec, model, before)


def _check_spec(spec: EditorSpec) -> None:
    name = type(spec).__name__
    assert _is_frozen(spec), f"{name} must be a frozen dataclass"
    assert isinstance(spec, EditorSpec), f"{name} needs name, regimes, requirements() and build()"
    known = {"single", "batch", "sequential"}
    assert spec.regimes, f"{name}.regimes is empty"
    assert spec.regimes <= known, f"{name}.regimes has {sorted(spec.regimes - known)}"
    whole: Any = spec
    copy = pickle.loads(pickle.dumps(spec))  # noqa: S301
    assert copy == spec, f"{name} is another one after pickling"
    try:
        assert hash(copy) == hash(spec), f"{name} has another hash after pickling"
    except TypeError as error:
        raise AssertionError(f"{name} does not hash: {error}; use tuples, not lists") from error
    try:
        canonical_json(asdict(whole))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{name} has a field that is not plain JSON: {error}") from error


def _is_frozen(value: Any) -> bool:
    return bool(getattr(getattr(value, "__dataclass_params__", None), "frozen", False))


def _assets(spec: EditorSpec, model: LanguageModel) -> Mapping[str, Asset]:
    requests = tuple(tiny_requests(64)[8:])
    corpus = Corpus(requests, tuple(f"{r.question} {r.target_true}." for r in requests))
    made = {}
    for name, need in spec.requirements().items():
        assert isinstance(need, Requirement), f"requirement {name!r} needs `source` and make()"
        assert _is_frozen(need), f"requirement {name!r} must be a frozen dataclass"
        made[name] = need.make(model, Corpus() if need.source is None else corpus)
        canonical_json(made[name].meta)
    return made


def _check_groups(
    spec: EditorSpec,
    model: LanguageModel,
    editor: Editor,
    groups: Sequence[Sequence[EditRequest]],
) -> None:
    together = _edit(spec, editor, groups)
    for index, one in enumerate(together):
        where = f"{spec.name}: group {index} of {len(groups)}"
        assert one.error is None, f"{where} could not be edited: {one.error}"
        _check_patch(where, model, one)
        (alone,) = _edit(spec, editor, [groups[index]])
        _check_same(f"{where}, alone and beside the others", one, alone)
    for index, again in enumerate(_edit(spec, editor, groups)):
        _check_same(f"{spec.name}: group {index}, twice with one seed", together[index], again)
    odd = [[_odd(request, i) for request in groups[0]] for i in range(2)]
    mixed = _edit(spec, editor, [odd[0], *groups, odd[1]])
    for index, one in enumerate(mixed[1:-1]):
        _check_same(f"{spec.name}: group {index}, beside odd requests", together[index], one)


def _check_left_out(spec: EditorSpec, editor: Editor, good: Sequence[EditRequest]) -> None:
    """A group is edited, and a sequence goes on, as if what cannot be edited were not in it."""
    wanted, kept = edit_next(editor, good, {}, seed=0)
    for kind in range(2):
        odd = _odd(good[0], kind)
        (alone,) = _edit(spec, editor, [[odd]])
        if alone.error is None:
            continue
        where = f"{spec.name}: a group with {odd.question!r} to {odd.target_new!r}, {alone.error},"
        mixed, state = edit_next(editor, [good[0], odd, good[1]], {}, seed=0)
        _check_same(f"{where} and without it", wanted, mixed)
        reasons = {place: error.kind for place, error in mixed.left_out.items()}
        assert reasons == {1: alone.error.kind}, f"{where} leaves out {dict(mixed.left_out)}"
        assert state.keys() == kept.keys(), f"{where} leaves another state than without it"
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, kept[name], msg=f"{where} changes state {name!r}")


def _check_chain(
    spec: EditorSpec, model: LanguageModel, editor: Editor, requests: Sequence[EditRequest]
) -> None:
    kept: list[tuple[Patch, State]] = [(Patch(), {})]
    for index, request in enumerate(requests):
        where = f"{spec.name}: step {index} of a sequence"
        for again in range(2):
            edited, patch, state = _step(editor, model, request, *kept[index])
            assert edited.error is None, f"{where} could not be edited: {edited.error}"
            _check_patch(where, model, edited)
            if again:
                apart = difference(patch, kept[index + 1][0])
                assert apart == 0, f"{where}, twice from one state: {apart:.1e} apart"
            else:
                kept.append((patch, state))
    _, _, state = _step(editor, model, _odd(requests[0], 1), *kept[-1])
    assert all(torch.equal(state[name], t) for name, t in kept[-1][1].items()), (
        f"{spec.name}: an edit that failed changed the state of the sequence"
    )


def _step(
    editor: Editor, model: LanguageModel, request: EditRequest, patch: Patch, state: State
) -> tuple[Edited, Patch, State]:
    """One more edit on a model that `patch` has changed already."""
    with merged(model, patch):
        edited, state = edit_next(editor, [request], state, seed=0)
    return edited, added(patch, edited.patch or Patch()), state


def _odd(request: EditRequest, kind: int) -> EditRequest:
    """A request that many editors cannot do: no subject, or nothing to say."""
    if kind == 0:
        return EditRequest.of(None, f"{request.subject} lives in the city of", request.target_new)
    return EditRequest.of(request.subject, request.prompt, "")


def _edit(
    spec: EditorSpec, editor: Editor, groups: Sequence[Sequence[EditRequest]]
) -> list[Edited]:
    try:
        done = editor.edit(groups, seed=0)
    except Exception as error:
        raise AssertionError(
            f"{spec.name}: edit() raised {type(error).__name__}: {error}; an edit that cannot be "
            "done comes back as Edited(error=EditError(...))"
        ) from error
    assert len(done) == len(groups), f"{spec.name}: {len(done)} results of {len(groups)} groups"
    for one in done:
        assert one.error is None or isinstance(one.error, EditError), f"{one.error!r} as an error"
        assert one.error is None or one.patch is None, f"{spec.name}: an error with a patch"
    return done


def _check_patch(where: str, model: LanguageModel, one: Edited) -> None:
    if one.patch is None:
        return
    assert one.patch.finite, f"{where}: the patch is not finite"
    for name, change in one.patch.adds.items():
        shape, wanted = tuple(change.delta().shape), tuple(model.weight(name).shape)
        assert shape == wanted, f"{where}: {name} is {wanted}, its change {shape} [d_out, d_in]"


def _check_same(where: str, one: Edited, other: Edited) -> None:
    assert other.error is None, f"{where}: {other.error}"
    assert (one.patch is None) == (other.patch is None), f"{where}: a patch once, none once"
    apart = difference(one.patch, other.patch)
    if not math.isfinite(apart):
        raise AssertionError(f"{where}: the patches touch different modules or say different texts")
    assert apart <= _TOLERANCE, f"{where}: the patches are {apart:.1e} apart, not {_TOLERANCE:.0e}"


def _check_untouched(spec: EditorSpec, model: LanguageModel, before: Mapping[str, Any]) -> None:
    after = model.module.state_dict()
    assert after.keys() == before.keys(), f"{spec.name}: the model has other weights than before"
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), f"{spec.name}: {name} was written"
    for name, module in model.module.named_modules():
        hooks = [*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks]
        assert not hooks, f"{spec.name}: {len(hooks)} hooks were left on {name or 'the model'}"
        assert not module.training, f"{spec.name}: {name or 'the model'} was left in training mode"
    for name, parameter in model.module.named_parameters():
        assert not parameter.requires_grad, f"{spec.name}: {name} was left with requires_grad"
        assert parameter.grad is None, f"{spec.name}: {name} was left with a gradient"
