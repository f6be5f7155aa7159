import pytest
import torch

from editsweep.core.types import Corpus
from editsweep.errors import ConfigError
from editsweep.model.hooks import reading
from editsweep.model.layers import Layers
from editsweep.model.moments import SecondMoments, second_moments
from editsweep.model.tiny import tiny_model

TEXTS = [
    "The capital of France is Paris.",
    "Rome",
    "她在倫敦工作",
    "Madrid is the capital of Spain.",
]


def by_hand(model, layer, texts):
    keys = []
    for text in texts:
        with reading(model, model.mlp_out(layer), lambda x, _: keys.append(x[0].double())):
            model.module(torch.tensor([model.tokenizer(text)["input_ids"]]))
    every = torch.cat(keys)
    return every.T @ every / len(every), len(every)


@pytest.mark.parametrize("budget", [8, 2048])
def test_every_token_counts_once_however_texts_are_batched(budget):
    model = tiny_model()
    object.__setattr__(model, "token_budget", budget)
    moments, seen, _ = second_moments(model, (0, 2), TEXTS, 10**6)
    for layer in (0, 2):
        expected, count = by_hand(model, layer, TEXTS)
        assert seen == count
        torch.testing.assert_close(moments[layer], expected, rtol=1e-5, atol=1e-7)


def test_it_stops_at_the_wanted_number_and_tells_how_far_it_moved():
    model = tiny_model()
    moments, seen, moved = second_moments(model, (0,), TEXTS * 40, 500)
    moment = moments[0]
    assert seen == 500
    assert len(moved) >= 3
    assert moved[-1] < moved[0]
    assert torch.linalg.eigvalsh(moment).min() > -1e-6 * moment.trace()


def test_the_requirement_makes_it_from_a_corpus():
    model = tiny_model()
    asset = SecondMoments("somewhere", Layers((1, 2))).make(model, Corpus(texts=tuple(TEXTS * 40)))
    assert {name: t.shape for name, t in asset.tensors.items()} == {
        "moment.1": (64, 64),
        "moment.2": (64, 64),
    }
    assert asset.meta["layers"] == [1, 2]
    assert asset.meta["vectors"] == 640


def test_too_little_text_is_refused():
    with pytest.raises(ConfigError, match="too few"):
        SecondMoments("short.txt", Layers(1)).make(tiny_model(), Corpus(texts=("Rome",)))
