import math

import pytest
import torch

from editsweep.core.fixed_text import FIXED_TEXT
from editsweep.model import drift as module
from editsweep.model.drift import Drift, drift, perplexity
from editsweep.model.merge import merged
from editsweep.model.patch import Dense, LowRank, Patch
from editsweep.model.tiny import TINY_TYPES, tiny_model


def change(model, size):
    name = model.mlp_out(1)
    noise = torch.randn(model.weight(name).shape, generator=torch.Generator().manual_seed(1))
    return Patch({name: Dense(size * noise)})


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_the_unedited_model_has_not_moved(model_type):
    found = drift(tiny_model(model_type), Patch())
    assert (found.weight_norm, found.relative_norm, found.collapsed) == (0, 0, False)
    assert 1 < found.before == found.after < math.inf


def test_perplexity_is_what_a_plain_pass_gives():
    model = tiny_model()
    total, count = 0.0, 0
    for sentence in FIXED_TEXT:
        ids = torch.tensor([model.tokenizer(sentence)["input_ids"]])
        logp = torch.log_softmax(model.module(ids).logits[0].float(), -1)
        first = len(model.tokenizer(sentence.split(" ")[0])["input_ids"])
        for place in range(first, ids.shape[1]):
            total -= float(logp[place - 1, ids[0, place]])
            count += 1
    assert perplexity(model) == pytest.approx(math.exp(total / count), rel=1e-4)


def test_a_patch_moves_it_as_merged_weights_do():
    model = tiny_model()
    patch = change(model, 0.5)
    found = drift(model, patch)
    assert found.weight_norm == pytest.approx(patch.norm)
    weight = model.weight(model.mlp_out(1))
    assert found.relative_norm == pytest.approx(patch.norm / float(weight.norm()), rel=1e-5)
    with merged(model, patch):
        assert found.after == pytest.approx(perplexity(model), rel=1e-4)
    assert found.after != found.before


def test_a_patch_that_only_speaks_touches_no_weight():
    found = drift(tiny_model(), Patch(prefix="New fact: "))
    assert (found.weight_norm, found.relative_norm) == (0, 0)
    assert found.after != found.before


@pytest.mark.parametrize(
    ("after", "collapsed"), [(100.0, False), (100.1, True), (math.inf, True), (5.0, False)]
)
def test_collapse_is_ten_times_the_perplexity(after, collapsed):
    assert Drift(1, 1, 10.0, after).collapsed is collapsed


def test_what_is_no_number_is_infinite(monkeypatch):
    model = tiny_model()
    name = model.mlp_out(0)
    d_out, d_in = model.weight(name).shape
    broken = Patch({name: LowRank(torch.full((1, d_in), math.nan), torch.ones(1, d_out))})
    assert perplexity(model, broken) == math.inf
    low = type("Score", (), {"logprobs": (-800.0,)})
    monkeypatch.setattr(module, "score", lambda *_: [low])
    assert perplexity(model) == math.inf
