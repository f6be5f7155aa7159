"""Tracing against the plain way: one site a forward, with hooks, on every family."""

from dataclasses import replace

import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.errors import ConfigError
from editsweep.model.facts import Fact
from editsweep.model.restoring import KINDS, noisy, part
from editsweep.model.tiny import TINY_TYPES, tiny_model
from editsweep.model.tracing import (
    TraceSettings,
    last_subject_token,
    sites,
    subject_noise,
    trace,
)

REQUESTS = [
    EditRequest.of("The Eiffel Tower", "{} is located in the city of", "Rome", "Paris"),
    EditRequest.of("Japan", "The capital of {} is", "Rome", "Tokyo"),
    EditRequest.of("巴黎", "{}是", "日本", "法國"),
]
FEW = TraceSettings(window=2, samples=3)
SIGMA = 0.5


def plain(model, fact, settings, kind, layer, token):
    """The answer's mean probability, clean and with one site restored, all rows whole."""
    noise = subject_noise(model, fact, settings, SIGMA)
    ids = torch.tensor([fact.ids] * (1 + settings.samples))
    added = torch.zeros(*ids.shape, noise.shape[-1])
    added[1:, fact.span.start : fact.span.stop] = noise

    def restore(_module, _args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        hidden[1:, token] = hidden[0, token]

    window = settings.layers(kind, layer, model.depth) if kind else range(0)
    handles = [
        model.module.get_submodule(part(model, kind, n)).register_forward_hook(restore)
        for n in window
    ]
    with torch.no_grad(), noisy(model, added):
        chances = model.module(ids).logits[:, -1].softmax(-1)
    for handle in handles:
        handle.remove()
    answer = chances[0].argmax()
    return chances[0, answer], chances[1:, answer].mean()


# The middle of four layers has windows that are cut at neither end.
@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_every_site_equals_the_plain_way(model_type):
    model = tiny_model(model_type, layers=4)
    facts = [Fact.of(model, request) for request in REQUESTS]
    for fact, made in zip(facts, trace(model, facts, FEW, SIGMA), strict=True):
        clean, low = plain(model, fact, FEW, "", 0, 0)
        assert (made.clean, made.low) == pytest.approx((float(clean), float(low)), abs=1e-5)
        moved = 0.0
        for kind in KINDS:
            for token in {0, fact.span[0], fact.span[-1], len(fact.ids) - 1}:
                for layer in range(model.depth):
                    _, wanted = plain(model, fact, FEW, kind, layer, token)
                    found = float(made.restored[kind][token, layer])
                    assert found == pytest.approx(float(wanted), abs=1e-5), (kind, token, layer)
                    moved = max(moved, abs(found - made.low))
        assert moved > 1e-3


def test_few_sites_in_many_passes_give_the_same():
    model = tiny_model(layers=2)
    facts = [Fact.of(model, request) for request in REQUESTS]
    whole = list(trace(model, facts, FEW, SIGMA))
    narrow = replace(model, token_budget=8)
    told = []
    some = trace(narrow, facts, FEW, SIGMA, last_subject_token, told.append)
    for all_, one in zip(whole, some, strict=True):
        assert (one.fact, one.tokens, one.answer) == (all_.fact, all_.fact.span[-1:], all_.answer)
        for kind in KINDS:
            wanted = all_.restored[kind][all_.fact.span[-1] :][:1]
            torch.testing.assert_close(one.restored[kind], wanted, rtol=1e-5, atol=1e-6)
    assert sum(told) == len(facts) * model.depth * len(KINDS)


def test_the_sites_told_are_the_sites_promised():
    model = tiny_model(layers=2)
    facts = [Fact.of(model, request) for request in REQUESTS]
    told = []
    list(trace(model, facts, FEW, SIGMA, report=told.append))
    assert sum(told) == sum(sites(model, fact, FEW) for fact in facts)


def test_a_given_answer_is_traced():
    model = tiny_model(layers=2)
    fact = replace(Fact.of(model, REQUESTS[1]), answer=7)
    settings = TraceSettings(kinds=("state",), samples=2)
    (made,) = trace(model, [fact], settings, SIGMA)
    with torch.no_grad():
        chance = model.module(torch.tensor([fact.ids])).logits[0, -1].softmax(-1)[7]
    assert (made.answer, list(made.restored)) == (7, ["state"])
    assert made.clean == pytest.approx(float(chance), rel=1e-5)


def test_windows_are_cut_at_the_ends():
    settings = TraceSettings()
    assert [settings.layers("mlp", n, 30) for n in (0, 7, 29)] == [
        range(5),
        range(2, 12),
        range(24, 30),
    ]
    assert TraceSettings(window=3).layers("attention", 4, 9) == range(3, 6)
    assert settings.layers("state", 4, 30) == range(4, 5)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kinds": ("mpl",)}, "did you mean 'mlp'"),
        ({"kinds": ()}, "name some of"),
        ({"samples": 0}, "must be positive"),
        ({"noise": float("nan")}, "must be positive"),
    ],
)
def test_wrong_settings_are_refused(wrong, told):
    with pytest.raises(ConfigError, match=told):
        TraceSettings(**wrong)
