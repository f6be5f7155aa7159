"""The sentence encoder: like meanings are near, and company does not matter."""

import pytest
import torch

from editsweep.model.encoder import load_encoder

TEXTS = [
    "The capital of France is Paris",
    "Paris is the capital city of France",
    "My dog likes to eat grass in the morning, and then sleeps until the sun goes down again",
    "A dog that eats grass early in the day",
    "Bananas",
]


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


def test_a_paraphrase_is_nearer_than_anything_else(encoder):
    vectors = encoder.embed(TEXTS)
    assert vectors.shape == (5, 384)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))
    near = (vectors @ vectors.T).fill_diagonal_(-1).argmax(1).tolist()
    assert near[:4] == [1, 0, 3, 2]


def test_alone_or_in_a_batch_of_any_size_in_any_order(encoder):
    alone = torch.cat([encoder.embed([text]) for text in TEXTS])
    for batch in (2, 64):
        assert (encoder.embed(TEXTS, batch) - alone).abs().max() < 1e-5
    assert (encoder.embed(TEXTS[::-1]).flip(0) - alone).abs().max() < 1e-5


def test_nothing_gives_nothing(encoder):
    assert encoder.embed([]).shape == (0, 384)


def test_a_long_text_is_cut(encoder):
    start = "word " * 300
    assert torch.equal(encoder.embed([start]), encoder.embed([start + "another end"]))
