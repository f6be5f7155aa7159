import pytest
import torch

from editsweep.core.types import Corpus
from editsweep.errors import ConfigError
from editsweep.model.hooks import reading
from editsweep.model.moments import SecondMoment, second_moment
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
    expected, count = by_hand(model, 1, TEXTS)
    moment, seen, _ = second_moment(model, 1, TEXTS, 10**6)
    assert seen == count
    torch.testing.assert_close(moment, expected, rtol=1e-5, atol=1e-7)


def test_it_stops_at_the_wanted_number_and_tells_how_far_it_moved():
    model = tiny_model()
    moment, seen, moved = second_moment(model, 0, TEXTS * 40, 500)
    assert seen == 500
    assert len(moved) >= 3
    assert moved[-1] < moved[0]
    assert torch.linalg.eigvalsh(moment).min() > -1e-6 * moment.trace()


def test_the_requirement_makes_it_from_a_corpus():
    model = tiny_model()
    asset = SecondMoment("somewhere", 1).make(model, Corpus(texts=tuple(TEXTS * 40)))
    assert asset.tensors["moment"].shape == (64, 64)
    assert asset.meta["vectors"] == 640


def test_too_little_text_is_refused():
    with pytest.raises(ConfigError, match="too few"):
        SecondMoment("short.txt", 1).make(tiny_model(), Corpus(texts=("Rome",)))
