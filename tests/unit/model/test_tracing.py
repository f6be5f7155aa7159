"""Tracing against the plain way: one site a forward, with hooks, on every family."""

import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.errors import ConfigError
from editsweep.model.facts import Fact, subject_deviation
from editsweep.model.restoring import KINDS, noisy, part
from editsweep.model.tiny import TINY_TYPES, tiny_model
from editsweep.model.tracing import (
    TraceSettings,
    last_subject_token,
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


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_every_site_equals_the_plain_way(model_type):
    model = tiny_model(model_type, layers=4)
    facts = [Fact.of(model, request) for request in REQUESTS]
    for fact, made in zip(facts, trace(model, facts, FEW, SIGMA), strict=True):
        clean, low = plain(model, fact, FEW, "", 0, 0)
        assert (made.clean, made.low) == pytest.approx((float(clean), float(low)), abs=1e-5)
        moved = 0.0
        for kind in KINDS:
            for token in range(len(fact.ids)):
                for layer in range(model.depth):
                    _, wanted = plain(model, fact, FEW, kind, layer, token)
                    found = float(made.restored[kind][token, layer])
                    assert found == pytest.approx(float(wanted), abs=1e-5), (kind, token, layer)
                    moved = max(moved, abs(found - made.low))
        assert moved > 1e-3
