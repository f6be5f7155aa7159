"""An edit of the small real model, exported and loaded by the libraries that it is made for."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from editsweep.core.types import Corpus, EditRequest
from editsweep.editors.rome import RomeSpec
from editsweep.model.about import About
from editsweep.model.catalogue import resolve
from editsweep.model.export import write
from editsweep.model.load import load
from editsweep.model.merge import merged
from editsweep.model.patch import applied

REQUEST = EditRequest.of("Lyon", "{} is a city in the country of", "Japan", "France")
TEXT = "Lyon is a city in the country of Japan. The currency used in Lyon is the yen."


@pytest.fixture(scope="module")
def edit(smollm2):
    """A ROME edit, what the edited model says, and what the weights were before."""
    before = {name: tensor.clone() for name, tensor in smollm2.module.state_dict().items()}
    spec = RomeSpec(moment="identity", contexts=0, steps=8)
    needs = {name: need.make(smollm2, Corpus()) for name, need in spec.requirements().items()}
    editor = spec.build(smollm2, needs)
    (edited,) = editor.edit([[REQUEST]], seed=0)
    with applied(smollm2, [edited.patch]):
        return edited.patch, logits(smollm2.module, smollm2.tokenizer), before


def about():
    return About(resolve("smollm2-135m"), "rome", {"moment": "identity"}, 0, (REQUEST,))


def logits(module, tokenizer):
    with torch.no_grad():
        return module(torch.tensor([tokenizer(TEXT)["input_ids"]])).logits


def apart(one, other):
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_peft_says_the_same(smollm2, edit, tmp_path):
    from peft import PeftModel

    patch, wanted, _ = edit
    assert apart(logits(smollm2.module, smollm2.tokenizer), wanted) > 1e-2
    write("lora", smollm2, patch, tmp_path / "lora", about(), "lora")
    loaded = PeftModel.from_pretrained(load("smollm2-135m").module, tmp_path / "lora")
    assert apart(logits(loaded, smollm2.tokenizer), wanted) < 1e-5


@pytest.mark.slow
def test_the_merged_checkpoint_is_the_patch_and_the_base_is_untouched(smollm2, edit, tmp_path):
    patch, wanted, before = edit

    write("checkpoint", smollm2, patch, tmp_path / "merged", about(), "merged")
    for name, tensor in smollm2.module.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} was written"
    stored = load_file(tmp_path / "merged" / "model.safetensors")
    (touched,) = (f"{name}.weight" for name in patch.adds)
    others = [n for n, t in stored.items() if n != touched and not torch.equal(t, before[n])]
    assert others == []
    with merged(smollm2, patch):
        assert torch.equal(stored[touched], smollm2.module.state_dict()[touched])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert apart(logits(loaded, tokenizer), wanted) < 1e-5
    ours = load(str(tmp_path / "merged"))
    assert apart(logits(ours.module, ours.tokenizer), wanted) < 1e-5
