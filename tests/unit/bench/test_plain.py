"""The plain loop must do the same work, or its time means nothing."""

import pytest
import torch

from editsweep.bench import plain
from editsweep.core.types import EditRequest, Probe
from editsweep.editors.ft import FtSpec
from editsweep.editors.ft_l import FtlSpec
from editsweep.editors.ft_w import FtwSpec
from editsweep.editors.lora import LoraSpec
from editsweep.editors.memit import MemitSpec
from editsweep.editors.r_rome import RRomeSpec
from editsweep.editors.rome import RomeSpec
from editsweep.model.asking import AskSettings, Question, ask
from editsweep.model.asset import Asset
from editsweep.model.patch import difference
from editsweep.model.tiny import tiny_model

REQUEST = EditRequest.of(
    "France",
    "The capital of {} is",
    "Rome",
    "Paris",
    [Probe.of("paraphrase", "Question: What is the capital of France?", ["Rome", "the Rome"])],
)


def close(p, q, tolerance=1e-3):
    return float((p - q).norm() / q.norm()) < tolerance


CONTEXTS = {"contexts": Asset(meta={"templates": ["Because of this, the. {}"]})}


@pytest.mark.parametrize("rows_at_once", [1, 99])
@pytest.mark.parametrize("spec_type", [RomeSpec, RRomeSpec])
def test_rome_is_the_same_edit(spec_type, rows_at_once):
    rome = spec_type(layer=1, steps=8, moment="identity").build(tiny_model(), CONTEXTS)
    (edited,) = rome.edit([[REQUEST]], 0)
    (change,) = edited.patch.adds.values()
    assert close(plain.rome(rome, REQUEST, rows_at_once), change.delta())


def test_memit_is_the_same_edit():
    spec = MemitSpec(layers=(0, 1), steps=8, moment="identity", weight=10.0)
    memit = spec.build(tiny_model(), CONTEXTS)
    (edited,) = memit.edit([[REQUEST]], 0)
    assert difference(plain.spread(memit, REQUEST), edited.patch) < 1e-3


def test_ft_is_the_same_edit_and_the_weight_comes_back():
    model, spec = tiny_model(), FtSpec(layer=1, steps=8, rate=5e-3)
    weight = model.weight(model.mlp_out(1))
    before = weight.clone()
    (edited,) = spec.build(model, {}).edit([[REQUEST]], 0)
    (change,) = edited.patch.adds.values()
    assert close(plain.ft(model, spec, 1, REQUEST), change.delta())
    assert torch.equal(weight, before)
    with plain.written(weight, change.delta()):
        assert not torch.equal(weight, before)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_the_other_ways_to_train_are_the_same_edits(model_type):
    model = tiny_model(model_type)
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    specs = (FtlSpec(layer=1, steps=5), FtwSpec(layer=1, steps=5), LoraSpec(steps=3))
    for spec, trained in zip(specs, (plain.ft_l, plain.ft_w, plain.lora), strict=True):
        editor = spec.build(model, {})
        (edited,) = editor.edit([[REQUEST]], 0)
        made = trained(editor, REQUEST)
        assert made.keys() == edited.patch.adds.keys()
        for name, change in edited.patch.adds.items():
            assert close(made[name], change.delta(), 1e-2), (spec, name)
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_asking_gives_the_same_numbers():
    model = tiny_model()
    answers = ask(model, [Question(p) for p in REQUEST.all_probes], [None], AskSettings(()))
    engine = [-s.nll for answer in answers for s in answer.scored]
    assert plain.ask(model, REQUEST) == pytest.approx(engine, abs=1e-4)
