"""The engine on a GPU gives what it gives on a CPU."""

import pytest
import torch

from editsweep.editors.ft import FtSpec
from editsweep.editors.ike import IkeSpec
from editsweep.editors.memit import MemitSpec
from editsweep.editors.none import NoneSpec
from editsweep.editors.rome import RomeSpec
from editsweep.model.asset import Asset
from editsweep.model.load import load
from editsweep.model.patch import Patch, difference
from editsweep.run.evaluate import AskSettings, UnitIds, ask_base, evaluate
from editsweep.testing import check_editor, tiny_requests

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
SETTINGS = AskSettings(max_new_tokens=4)
ROME = RomeSpec(layer=1, moment="identity")
MEMIT = MemitSpec(layers=(0, 1), moment="identity", weight=10.0)
CONTEXTS = {"contexts": Asset(meta={"templates": ["You were there. {}"]})}


@pytest.fixture(scope="module")
def models():
    return load("tiny-llama", device="cpu"), load("tiny-llama", device="cuda")


def on_cpu(patch):
    """The same patch with its tensors on the host."""
    moved = {
        name: type(change)(**{part: t.cpu() for part, t in change.tensors.items()})
        for name, change in patch.adds.items()
    }
    return Patch(moved, patch.prefix)


@pytest.mark.parametrize("spec", [FtSpec(layer=1), ROME, MEMIT], ids=lambda spec: spec.name)
def test_patches_are_those_of_the_cpu(models, spec):
    groups = [[request] for request in tiny_requests(4)]
    host, device = (spec.build(model, CONTEXTS).edit(groups, 0) for model in models)
    for one, other in zip(host, device, strict=True):
        assert one.steps == other.steps
        assert difference(one.patch, on_cpu(other.patch)) < 1e-3


def measurements(model, spec, assets):
    requests, ids = tiny_requests(4), UnitIds("s", "c", "u")
    base = ask_base(model, requests, SETTINGS)
    editor = spec.build(model, assets)
    tables = evaluate(model, editor, [[r] for r in requests], base, ids, 0, SETTINGS)
    return tables["measurements"]["value"].to_pylist()


def test_measurements_are_those_of_the_cpu(models):
    host, device = (measurements(model, FtSpec(layer=1), {}) for model in models)
    assert host == pytest.approx(device, abs=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize(
    ("spec", "assets"),
    [(NoneSpec(), {}), (FtSpec(layer=1), {}), (ROME, CONTEXTS), (IkeSpec(demonstrations=0), {})],
    ids=lambda value: getattr(value, "name", ""),
)
def test_two_gpus_give_what_one_gives(models, spec, assets):
    apart = load("tiny-llama", device="cuda:0,cuda:1")
    places = {str(weight.device) for weight in apart.module.parameters()}
    assert places == {"cuda:0", "cuda:1"}
    alone = measurements(models[1], spec, assets)
    assert measurements(apart, spec, assets) == pytest.approx(alone, abs=1e-4)


def test_the_contract_holds(models):
    check_editor(FtSpec(layer=1), models[1])
    check_editor(ROME, models[1])
    check_editor(MEMIT, models[1])
