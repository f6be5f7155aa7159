"""The engine on a GPU gives what it gives on a CPU."""

import pytest
import torch

from editsweep.editors.ft import FtSpec
from editsweep.editors.memit import MemitSpec
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


def test_measurements_are_those_of_the_cpu(models):
    requests = tiny_requests(4)
    found = []
    for model in models:
        base = ask_base(model, requests, SETTINGS)
        editor = FtSpec(layer=1).build(model, {})
        ids = UnitIds("s", "c", "u")
        tables = evaluate(model, editor, [[r] for r in requests], base, ids, 0, SETTINGS)
        found.append(tables["measurements"]["value"].to_pylist())
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def test_the_contract_holds(models):
    check_editor(FtSpec(layer=1), models[1])
    check_editor(ROME, models[1])
    check_editor(MEMIT, models[1])
