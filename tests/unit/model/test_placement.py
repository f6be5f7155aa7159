"""A model over several devices gives the bits that it gives on one, and mixes no two of them.

There is one device here, so the others are pretended: within `pretended` a tensor sent to one stays
where it is and is labelled, results have the label of what they were made from, and to compute with
tensors of two labels is an error, as it is with GPUs.
"""

import itertools
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

from editsweep.editors import EDITORS
from editsweep.editors.ft import FtSpec
from editsweep.editors.memit import MemitSpec
from editsweep.editors.rome import RomeSpec
from editsweep.errors import ConfigError
from editsweep.model import drift
from editsweep.model.asset import Asset
from editsweep.model.facts import Fact
from editsweep.model.load import load
from editsweep.model.merge import merged
from editsweep.model.moments import second_moments
from editsweep.model.placement import cuts, device_map, spread
from editsweep.model.restrain import Restraint
from editsweep.model.tail import Tail, TailRow
from editsweep.model.tiny import TINY_TYPES, tiny_model
from editsweep.model.tracing import TraceSettings, trace
from editsweep.run.chain import Chain, Checkpoint, go_on
from editsweep.run.evaluate import AskSettings, UnitIds, ask_base, evaluate, joined
from editsweep.run.in_turn import in_turn
from editsweep.testing import _assets as assets_of
from editsweep.testing import tiny_requests

HOST = torch.device("cpu")
DEVICES = [torch.device("cuda", n) for n in range(3)]
LABEL = "_pretended"
# Torch lets these take indices from the host.
INDEXED = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
SETTINGS = AskSettings(max_new_tokens=4)
SILENT = AskSettings(generate=())
IDS = UnitIds("s", "c", "u")
ASSETS = {
    "contexts": Asset(meta={"templates": ["You were there. {}"]}),
    "moment": Asset(
        {f"moment.{n}": torch.eye(64, dtype=torch.float64) for n in range(3)},
        {"layers": [0, 1, 2]},
    ),
}
EQUAL = {"rtol": 0, "atol": 0}
# The start that it learns is a second change of one input: autograd sums three gradients of it, on
# one device one after another, on several those of the two changes first.
REGROUPED = {"enn"}
LAST_BITS = {"rtol": 1e-4, "atol": 1e-6}
# Torch wants the second argument of these on the host: how long sequences are, or how many go on.
COUNTED = {torch._VF._pack_padded_sequence, torch._VF.lstm}
# It may take tensors of any two devices.
FREE = {torch._has_compatible_shallow_copy_type, torch.Tensor.copy_}
PLACES = torch.Tensor | torch.device | str
READ = {torch.Tensor.tolist, torch.Tensor.item, torch.Tensor.__repr__}


def label(tensor):
    return tensor.__dict__.get(LABEL, HOST)


def indices(given):
    return given if isinstance(given, tuple) else (given,)


def labelled(value, device):
    def put(tensor):
        setattr(tensor, LABEL, device)
        return tensor

    return (
        put(value) if isinstance(value, torch.Tensor) else tree_map_only(torch.Tensor, put, value)
    )


class Pretended(TorchFunctionMode):
    """Labels and checks; see above."""

    def __init__(self):
        super().__init__()
        self.crossings = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func == torch.Tensor.device.__get__:
            return label(args[0])
        if func == torch.Tensor.data.__set__:
            setattr(args[0], LABEL, label(args[1]))
            return func(*args)
        if func is torch.autograd.grad:
            made, wanted = func(*args, **kwargs), args[1]
            return tuple(labelled(g, label(x)) for g, x in zip(made, wanted, strict=True))
        if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.numpy):
            return self._sent(func, args, kwargs)
        there = label(args[0]) if func in FREE else self._one(func, args, kwargs)
        if (wanted := kwargs.pop("device", None)) is not None:
            there = torch.device(wanted)
        made = func(*args, **kwargs)
        if func is torch._VF._pack_padded_sequence:
            return labelled(made[0], there), labelled(made[1], HOST)
        return made if func in READ else labelled(made, there)

    def _sent(self, func, args, kwargs):
        if func is torch.Tensor.numpy:
            assert label(args[0]) == HOST
            return func(*args)
        given = [*args[1:], kwargs.get("device")]
        goals = [
            label(x) if isinstance(x, torch.Tensor) else torch.device(x)
            for x in given
            if isinstance(x, PLACES)
        ]
        goals += [HOST] if func is torch.Tensor.cpu else []
        goal = goals[0] if goals else label(args[0])
        kept = [HOST if isinstance(x, torch.device | str) else x for x in args[1:]]
        made = func(args[0], *kept, **kwargs | ({"device": HOST} if "device" in kwargs else {}))
        if goal != label(args[0]):
            self.crossings += 1
            made = made.view_as(made) if made is args[0] else made
            made = made if made.requires_grad else made.clone()
        return labelled(made, goal)

    def _one(self, func, args, kwargs):
        if func in COUNTED and isinstance(args[1], torch.Tensor):
            assert label(args[1]) == HOST
            args = (args[0], *args[2:])
        given = [*args, *kwargs.values()]
        if any(isinstance(x, tuple | list | dict) for x in given):
            given = tree_flatten(given)[0]
        tensors = [t for t in given if isinstance(t, torch.Tensor)]
        if func in INDEXED:
            tensors = [t for t in tensors if t is args[0] or (t.dim() and label(t) != HOST)]
            # By slices it copies, from anywhere; by lists and tensors it computes.
            if func is torch.Tensor.__setitem__ and isinstance(args[2], torch.Tensor):
                listed = any(isinstance(x, torch.Tensor | list) for x in indices(args[1]))
                tensors = [*tensors, args[2]] if listed else [args[0]]
        # Those without dimensions may come from the host.
        found = {label(t) for t in tensors if t.dim() or label(t) != HOST}
        if len(found) > 1:
            raise RuntimeError(f"{func.__name__} of tensors on {sorted(map(str, found))}")
        return found.pop() if found else HOST


@contextmanager
def pretended():
    with Pretended() as mode:
        yield mode


def test_the_pretence_refuses_what_gpus_refuse():
    with pretended():
        one, other = (torch.ones(2, device=d) for d in DEVICES[:2])
        assert (one + one).device == DEVICES[0]
        for mixed in (lambda: one + other, lambda: one[other.long()], lambda: one + torch.ones(2)):
            with pytest.raises(RuntimeError, match="of tensors on"):
                mixed()
        assert (one.to(other) + other).tolist() == [2, 2]
        one[:1] = other[:1]
        with pytest.raises(RuntimeError, match="of tensors on"):
            one[[0]] = torch.zeros(1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 99), st.data())
def test_blocks_are_cut_into_runs_and_no_later_device_is_empty(sizes, first, data):
    count = data.draw(st.integers(1, len(sizes)))
    places = cuts(sizes, first, count)
    assert len(places) == len(sizes)
    assert places == sorted(places)
    assert {*range(1, count)} <= {*places} <= {*range(count)}


@pytest.mark.parametrize(
    ("blocks", "first", "count", "expected"),
    [
        (4, 0, 2, [2, 2]),
        (4, 2, 2, [1, 3]),
        (4, 9, 2, [0, 4]),
        (80, 10, 4, [13, 22, 23, 22]),
        (3, 0, 3, [1, 1, 1]),
    ],
)
def test_every_device_holds_about_as_many_bytes(blocks, first, count, expected):
    places = cuts([1] * blocks, first, count)
    assert [places.count(device) for device in range(count)] == expected


def test_more_devices_than_blocks_are_refused():
    with pytest.raises(ConfigError, match="tiny-llama has 2 blocks, too few for 3 devices: choose"):
        device_map(tiny_model(layers=2), DEVICES)


def test_every_weight_lies_on_the_device_of_its_block():
    with pretended():
        model = tiny_model(layers=4)
        places = device_map(model, DEVICES)
        spread(model, DEVICES)
        assert [place.index for place in places.values()] == [1, 1, 2, 2]
        assert model.device == DEVICES[0]
        for name, weight in model.module.named_parameters():
            block = ".".join(name.split(".")[:3])
            assert weight.device == places.get(block, DEVICES[0]), name


def test_devices_with_commas_between_share_a_loaded_model():
    with pretended():
        model = load("tiny-llama", device="cuda:0,cuda:1", token_budget=99)
        places = {str(weight.device) for weight in model.module.parameters()}
    assert places == {"cuda:0", "cuda:1"}
    assert model.token_budget == 99


def test_a_device_that_is_none_is_named():
    with pytest.raises(ConfigError, match=r"device 'gpu': write .* for example cuda:0,cuda:1"):
        load("tiny-llama", device="cpu,gpu")


def test_a_tied_head_stays_tied():
    with pretended():
        model = tiny_model("gemma", layers=4)
        spread(model, DEVICES)
        head, embedding = model.module.lm_head, model.module.get_input_embeddings()
        assert head.weight is embedding.weight
        assert head.weight.device == DEVICES[0]


def both(model_type, ask):
    """What `ask` gives of a model on one device, and over several."""
    alone = ask(tiny_model(model_type, layers=4))
    with pretended() as mode:
        made = tiny_model(model_type, layers=4)
        spread(made, DEVICES)
        apart = ask(made)
        assert mode.crossings > 0
    return alone, apart


def measured(spec):
    """A sweep's numbers of one cell."""

    def ask(model):
        requests = tiny_requests(2)
        base = ask_base(model, requests, SETTINGS)
        editor = spec.build(model, {name: ASSETS[name] for name in spec.requirements()})
        tables = evaluate(model, editor, [[r] for r in requests], base, IDS, 0, SETTINGS)
        assert set(tables["edits"]["status"].to_pylist()) == {"ok"}
        return tables["measurements"]["value"].to_pylist(), tables["answers"].to_pylist()

    return ask


@dataclass
class Cells:
    """What a sweep's cells came to, one a regime: numbers and all else, and what was made before."""

    assets: dict
    numbers: list = field(default_factory=list)
    words: list = field(default_factory=list)

    def take(self, tables):
        assert set(tables["edits"]["status"].to_pylist()) == {"ok"}
        rows = [tables[kind].to_pylist() for kind in ("measurements", "answers")]
        for leaf in tree_flatten(rows)[0]:
            (self.numbers if isinstance(leaf, float) else self.words).append(leaf)


def cells(spec):
    """A small cell in each regime of `spec`, assets included."""

    def ask(model):
        requests = [replace(r, probes=r.probes[2:4]) for r in tiny_requests(2)]
        made = assets_of(spec, model)
        base = ask_base(model, requests, SILENT)
        editor = in_turn(spec.build(model, made), spec, model)
        found = Cells({name: dict(asset.tensors) for name, asset in made.items()})
        for kind, groups in {"single": [requests[:1]], "batch": [requests]}.items():
            if kind in spec.regimes:
                found.take(evaluate(model, editor, groups, base, IDS, 0, SILENT))
        if "sequential" in spec.regimes:
            found.take(sequence(model, editor, requests, base))
        return found

    return ask


def sequence(model, editor, requests, base):
    """Two checkpoints; where the first ends goes to the second as bytes, as between two workers."""
    told = {"base": base, "ids": IDS, "seed": 0, "settings": SILENT}
    told["restrain"] = Restraint.parse("rect")
    chain, one = go_on(model, editor, Chain(), Checkpoint([requests[:1]], [], **told))
    chain = Chain.of(chain.bytes(), model.device)
    _, other = go_on(model, editor, chain, Checkpoint([requests[1:]], requests[:1], **told))
    return joined(itertools.chain(one, other))


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_a_cell_has_the_bits_of_one_device(model_type):
    alone, apart = both(model_type, measured(RomeSpec(layer=1, moment="identity", steps=3)))
    assert alone == apart


@pytest.mark.parametrize("name", EDITORS.names())
def test_every_editor_has_the_bits_of_one_device(name, quick, monkeypatch):
    monkeypatch.setattr(drift, "FIXED_TEXT", drift.FIXED_TEXT[:1])
    alone, apart = both("llama", cells(quick(EDITORS.load(name)())))
    near = LAST_BITS if name in REGROUPED else EQUAL
    torch.testing.assert_close(apart.assets, alone.assets, **near)
    assert apart.words == alone.words
    assert apart.numbers == pytest.approx(alone.numbers, rel=near["rtol"], abs=near["atol"])


def test_a_value_after_a_norm():
    alone, apart = both("gemma2", measured(MemitSpec(layers=(0, 1), steps=2, weight=10.0)))
    assert alone == apart


def test_a_selected_tail_has_the_bits_of_one_device():
    def ask(model):
        tail = Tail.of(model, [TailRow((5, 6, 7, 8), 2), TailRow((9, 10, 11, 12), 2)], 1)
        few = tail.select(torch.tensor([1], device=model.device))
        return few.run(torch.zeros_like(few.output)).tolist()

    alone, apart = both("llama", ask)
    assert alone == apart


@pytest.mark.parametrize("model_type", ["llama", "gptj"])
def test_tracing_has_the_bits_of_one_device(model_type):
    def ask(model):
        facts = [Fact.of(model, request) for request in tiny_requests(2)]
        made = trace(model, facts, TraceSettings(window=2, samples=2), 0.5)
        return [{kind: found.tolist() for kind, found in t.restored.items()} for t in made]

    alone, apart = both(model_type, ask)
    assert alone == apart


def test_second_moments_have_the_bits_of_one_device():
    def ask(model):
        return second_moments(model, (0, 3), ["The capital of Japan is Tokyo."] * 9, 40)[0]

    alone, apart = both("llama", ask)
    assert all(torch.equal(alone[n], apart[n]) for n in alone)


@pytest.mark.parametrize("kind", ["rect", "prune"])
def test_restrained_and_merged_patches(kind):
    def ask(model):
        spec = FtSpec(layer=2, steps=2, rate=0.5)
        (edited,) = spec.build(model, {}).edit([tiny_requests(1)], 0)
        patch = Restraint.parse(kind).apply(model, edited.patch)
        with merged(model, patch):
            (name,) = patch.adds
            return patch.norm, model.weight(name).tolist()

    alone, apart = both("llama", ask)
    assert alone == apart
