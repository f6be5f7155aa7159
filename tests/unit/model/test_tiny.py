"""The tiny random models: the same everywhere, and no draw from the global generators."""

import random

import pytest
import torch

from editsweep.errors import ConfigError
from editsweep.model.tiny import TINY_TYPES, tiny_model, tiny_tokenizer


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_a_tiny_model_is_ready_and_repeatable(model_type):
    state = torch.get_rng_state(), random.getstate()
    model, again = tiny_model(model_type), tiny_model(model_type)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert model.revision == again.revision != tiny_model(model_type, seed=1).revision
    assert model.depth == 3
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    ids = model.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model.module(ids).logits
    assert logits.isfinite().all()
    assert logits.std() > 0.1  # it prefers some tokens to others


def test_sizes_are_arguments():
    model = tiny_model("llama", layers=2, width=64)
    assert (model.depth, model.module.config.hidden_size) == (2, 64)


def test_an_unknown_type_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'llama'"):
        tiny_model("lama")


def test_the_tokenizer_has_what_makes_tokenizing_hard():
    tokenizer = tiny_tokenizer()
    assert tokenizer.is_fast
    assert len(tokenizer) == 512
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for text in ("The capital of Liechtenstein is Vaduz.", "全世界最帥的人是李宏毅", " a  b\n"):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    merged, split = tokenizer.tokenize("The capital"), tokenizer.tokenize(" Liechtenstein")
    assert (merged, len(split) > 1) == (["The", "Ġcapital"], True)
    code = tokenizer("李", return_offsets_mapping=True)
    assert len(code.input_ids) > 1  # one character of several tokens
    assert set(code.offset_mapping) == {(0, 1)}
