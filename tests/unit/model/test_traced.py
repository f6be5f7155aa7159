import pickle

import pytest
import torch

from editsweep.core.types import Corpus, EditRequest
from editsweep.errors import ConfigError
from editsweep.model.asset import Requirement
from editsweep.model.facts import Fact, next_tokens, subject_deviation
from editsweep.model.tiny import tiny_model
from editsweep.model.traced import TracedLayer, traced_layer
from editsweep.model.tracing import TraceSettings, trace


@pytest.fixture(scope="module")
def model():
    return tiny_model(layers=4)


@pytest.fixture(scope="module")
def corpus(model):
    """Facts of which the tiny model says the first token."""
    subjects = ("Paris", "Rome", "The Eiffel Tower", "Tokyo", "London", "Madrid", "Vienna")
    asked = [EditRequest.of(s, "The city of {} is in", "x") for s in subjects]
    tokens = next_tokens(model, [Fact.of(model, request) for request in asked])
    said = [model.tokenizer.decode([token]) for token in tokens]
    return Corpus(
        tuple(
            EditRequest.of(r.subject, r.prompt, "x", text)
            for r, text in zip(asked, said, strict=True)
        )
    )


def test_the_layer_is_the_peak_of_the_full_trace(model, corpus):
    need = TracedLayer("some:train", facts=5)
    assert isinstance(need, Requirement)
    assert pickle.loads(pickle.dumps(need)) == need
    meta = need.make(model, corpus).meta

    facts = [Fact.of(model, request) for request in corpus.requests][: meta["facts"]]
    sigma = subject_deviation(model, [fact.subject for fact in facts])
    settings = TraceSettings(kinds=("mlp",), samples=4)
    rows = [
        made.restored["mlp"][made.fact.span[-1]] - made.low
        for made in trace(model, facts, settings, sigma)
    ]
    mean = torch.stack(rows).mean(0)
    torch.testing.assert_close(torch.tensor(meta["effects"]), mean, rtol=1e-4, atol=1e-7)
    assert meta["layer"] == int(mean.argmax())
    assert 3 <= meta["facts"] <= 5
    assert traced_layer(model, corpus, 5) == meta["layer"]


def test_too_few_known_facts_are_refused(model, corpus):
    with pytest.raises(ConfigError, match=r"some:train.*knows 2 of 2 facts.*name the layer"):
        TracedLayer("some:train").make(model, Corpus(corpus.requests[:2]))
