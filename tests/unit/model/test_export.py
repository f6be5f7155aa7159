import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from editsweep.core.types import EditRequest
from editsweep.errors import ConfigError, StoreError
from editsweep.model.about import About
from editsweep.model.card import SHOWN, card
from editsweep.model.catalogue import CATALOGUE, ModelEntry, resolve
from editsweep.model.export import FORMS, PATCH_FILE, as_checkpoint, as_lora, truncated, write
from editsweep.model.load import load
from editsweep.model.merge import load_patch, merged, read_about, save_patch
from editsweep.model.patch import Dense, LowRank, Patch, applied, difference
from editsweep.model.tiny import TINY_TYPES, tiny_model

REQUEST = EditRequest.of("Lyon", "{} lies in", "Japan", "France")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def about(model):
    entry = ModelEntry(model.name, "random", model.name, model.revision)
    return About(entry, "rome", {"layer": 1}, 3, (REQUEST,))


def some_patch(model):
    """Ranks 2 and 4, and a whole matrix of rank 3; attention and MLP."""
    dice = torch.Generator().manual_seed(3)

    def draw(*shape):
        return 0.3 * torch.randn(*shape, generator=dice)

    names = (model.mlp_out(0), model.mlp_matrices(1)[0], model.attention_out(2))
    sizes = [model.weight(name).shape for name in names]
    return Patch(
        {
            names[0]: LowRank(draw(2, sizes[0][1]), draw(2, sizes[0][0])),
            names[1]: LowRank(draw(4, sizes[1][1]), draw(4, sizes[1][0])),
            names[2]: Dense(draw(sizes[2][0], 3) @ draw(3, sizes[2][1])),
        }
    )


def logits(module):
    with torch.no_grad():
        return module(IDS).logits


def apart(one, other):
    """The largest difference of logits, relative to their scale."""
    return float((one - other).abs().max() / other.abs().max())


def bits(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def assert_untouched(model, before):
    after = model.module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_peft_loads_the_adapter_and_says_the_same(model_type, tmp_path):
    from peft import PeftModel

    model = tiny_model(model_type)
    before, patch = bits(model), some_patch(model)
    as_lora(model, patch, tmp_path / "lora", about(model))
    assert_untouched(model, before)
    with applied(model, [patch]):
        wanted = logits(model.module)
    assert apart(logits(model.module), wanted) > 1e-2
    loaded = PeftModel.from_pretrained(tiny_model(model_type).module, tmp_path / "lora")
    assert apart(logits(loaded), wanted) < 1e-5
    assert apart(logits(loaded.merge_and_unload()), wanted) < 1e-5


def test_the_adapter_names_every_rank_so_that_nothing_is_scaled(tmp_path):
    model = tiny_model("gpt2")
    as_lora(model, some_patch(model), tmp_path / "lora", about(model))
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (4, 4, True)
    ranks = {model.mlp_out(0): 2, model.attention_out(2): 3}
    assert config["rank_pattern"] == config["alpha_pattern"] == ranks
    assert config["target_modules"] == sorted(some_patch(model).adds)
    tensors = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    shape = tuple(tensors[f"base_model.model.{model.mlp_out(0)}.lora_A.weight"].shape)
    assert shape == (2, model.weight(model.mlp_out(0)).shape[1])


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_a_checkpoint_is_the_patch_in_the_weights(model_type, tmp_path):
    model = tiny_model(model_type)
    before, patch = bits(model), some_patch(model)
    as_checkpoint(model, patch, tmp_path / "merged", about(model))
    assert_untouched(model, before)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with merged(model, patch):
        assert torch.equal(logits(loaded), logits(model.module))
        kept = model.module.state_dict()
        assert all(torch.equal(t, kept[name]) for name, t in loaded.state_dict().items())
    assert loaded.dtype == model.module.dtype
    text = "Lyon lies in 日本"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer(text)["input_ids"] == model.tokenizer(text)["input_ids"]


def test_a_checkpoint_keeps_half_precision_and_tied_embeddings(tmp_path):
    model = tiny_model("gpt2")
    model.module.to(torch.bfloat16)
    patch = some_patch(model)
    as_checkpoint(model, patch, tmp_path / "merged", about(model))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert loaded.dtype == torch.bfloat16
    assert loaded.lm_head.weight.data_ptr() == loaded.transformer.wte.weight.data_ptr()
    with merged(model, patch):
        assert torch.equal(logits(loaded), logits(model.module))


def test_a_checkpoint_is_a_model_of_ours(tmp_path):
    model = tiny_model()
    patch = some_patch(model)
    folder = tmp_path / "lyon-in-japan"
    write("checkpoint", model, patch, folder, about(model), "lyon-in-japan")
    read = load(str(folder))
    assert (read.name, read.revision) == ("lyon-in-japan", resolve(str(folder)).revision)
    with applied(model, [patch]):
        assert apart(logits(read.module), logits(model.module)) < 1e-5


def test_a_tied_weight_is_not_merged(tmp_path):
    model = tiny_model("gpt2")
    weight = model.module.lm_head.weight
    patch = Patch({"lm_head": Dense(torch.ones_like(weight).T)})
    with pytest.raises(ConfigError, match=r"lm_head\.weight.* are one tensor"):
        as_checkpoint(model, patch, tmp_path / "merged", about(model))
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_a_card_and_leaves_the_model_alone(form, tmp_path):
    model = tiny_model()
    before = bits(model)
    write(form, model, some_patch(model), tmp_path / form, about(model), "here")
    assert_untouched(model, before)
    text = (tmp_path / form / "README.md").read_text()
    assert "| Lyon lies in | Japan | France |" in text
    assert model.revision in text
    assert '{"layer": 1}' in text
    code = text.partition("```python\n")[2].partition("```")[0]
    assert "here" in code
    compile(code, "card", "exec")


@pytest.mark.parametrize("form", ["lora", "checkpoint"])
def test_what_weights_cannot_hold_is_refused(form, tmp_path):
    model = tiny_model()
    for patch, told in ((Patch(prefix="New fact: x"), "says a text"), (Patch(), "no weight")):
        with pytest.raises(ConfigError, match=told):
            write(form, model, patch, tmp_path / "x", about(model), "x")
        assert not (tmp_path / "x").exists()


def test_a_whole_matrix_is_no_adapter_until_it_is_cut(tmp_path):
    model = tiny_model()
    name = model.mlp_out(1)
    delta = torch.randn(model.weight(name).shape, generator=torch.Generator().manual_seed(1))
    patch = Patch({name: Dense(delta), **some_patch(model).adds})
    with pytest.raises(ConfigError, match=r"rank 32 \(32 × 64\).*--rank R"):
        as_lora(model, patch, tmp_path / "x", about(model))
    cut, error = truncated(patch, 4)
    assert cut.rank == 4
    assert cut.adds[model.mlp_out(0)] is patch.adds[model.mlp_out(0)]
    assert error == pytest.approx(difference(patch, cut), rel=1e-4)
    s = torch.linalg.svdvals(delta.double())
    assert error * patch.norm == pytest.approx(math.sqrt(float((s[4:] ** 2).sum())), rel=1e-4)
    as_lora(model, cut, tmp_path / "x", about(model))
    same, nothing = truncated(some_patch(model), 5)
    assert nothing < 1e-6
    assert difference(same, some_patch(model)) < 1e-6


def test_our_own_file_comes_back_with_what_it_is(tmp_path):
    model = tiny_model()
    patch = replace(some_patch(model), prefix="New fact: 里昂\n")
    said = about(model)
    write("patch", model, patch, tmp_path / "p", said, "p")
    path = tmp_path / "p" / PATCH_FILE
    assert difference(load_patch(path), patch) == 0
    assert About.from_json(read_about(path)) == said
    save_patch(patch, tmp_path / "bare.safetensors")
    assert read_about(tmp_path / "bare.safetensors") == {}
    for bad in (tmp_path / "none", tmp_path / "p" / "README.md"):
        with pytest.raises(StoreError, match="cannot be read as a patch file"):
            read_about(bad)


def test_the_base_is_named_as_it_is_asked_for():
    entry = CATALOGUE["gpt2-xl"]
    assert About(entry).base == f"openai-community/gpt2-xl@{entry.revision}"
    assert About(ModelEntry("m", "path", "somewhere/m", "0")).base == "somewhere/m"
    assert About(CATALOGUE["tiny-llama"]).base == "tiny-llama"


def test_a_card_stays_a_table_whatever_the_texts_are():
    odd = EditRequest.of(None, "a | b\n<i>c", "x | y")
    many = About(CATALOGUE["gpt2-xl"], "rome", {}, 0, (odd,) * (SHOWN + 5), {"rect": 0.4})
    text = card(many, "peft", ["pass"])
    assert text.count("| a \\| b &lt;i>c | x \\| y |  |") == SHOWN
    assert "and 5 more." in text
    assert '| restrained | {"rect": 0.4} |' in text
    assert 'base_model: "openai-community/gpt2-xl"' in text
