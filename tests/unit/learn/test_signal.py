"""Rank-one factors of the gradient, against torch's own gradient of the whole matrix."""

import pytest
import torch
from torch.func import functional_call, grad

from editsweep.learn.changes import Proposal
from editsweep.learn.examples import encode_edit
from editsweep.learn.signal import Signal, gradient
from editsweep.model.tiny import tiny_model
from editsweep.model.upper import Below
from editsweep.testing import tiny_requests


def signal_of(model, n=3, first=1, per_group=1):
    edits = [encode_edit(model, request) for request in tiny_requests(n)]
    groups = [edits[i : i + per_group] for i in range(0, n, per_group)]
    modules = tuple(m for layer in range(first, model.depth) for m in model.mlp_matrices(layer))
    return Signal.of(Below(model, first), modules, groups)


def plain_loss(model, edit):
    """Of the weights of the linear modules, by name, as a function."""

    def loss(weights):
        named = {f"{name}.weight": w for name, w in weights.items()}
        kwargs = {"input_ids": torch.tensor([edit.ids[:-1]]), "use_cache": False}
        logits = functional_call(model.module, named, (), kwargs).logits[0]
        logp = logits[edit.start - 1 :].log_softmax(-1)
        return -logp.gather(1, torch.tensor(edit.ids[edit.start :])[:, None]).mean()

    return loss


def stored(model, name):
    return model.module.get_submodule(name).weight


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gptj"])
def test_the_factors_are_the_whole_gradient(model_type):
    model = tiny_model(model_type)
    signal = signal_of(model)
    factors = signal.factors()
    for index, edit in enumerate(signal.edits):
        weights = {name: stored(model, name) for name in signal.modules}
        for name, stored_gradient in grad(plain_loss(model, edit))(weights).items():
            whole = stored_gradient.T if model.family.transposed else stored_gradient
            ours = gradient(factors[name])[index]
            assert (ours - whole).norm() <= 1e-6 * whole.norm()


def test_under_a_proposal_they_are_the_changed_models_gradient():
    model = tiny_model()
    signal, draw = signal_of(model), torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=draw) / 8

    name = signal.modules[-1]
    d_out, d_in = model.weight(name).shape
    proposal = Proposal(drawn(3, 2, d_in), drawn(3, 2, d_out), drawn(d_out, d_in))
    factors = signal.factors({name: proposal})
    for index, edit in enumerate(signal.edits):
        weights = {n: stored(model, n) for n in signal.modules}
        weights[name] = weights[name] + proposal.change(index).delta()
        for n, whole in grad(plain_loss(model, edit))(weights).items():
            assert (gradient(factors[n])[index] - whole).norm() <= 1e-5 * whole.norm()


def test_tokens_that_do_not_count_are_zero():
    model = tiny_model()
    last = signal_of(model).factors()[model.mlp_out(model.depth - 1)]
    for row, edit in enumerate(signal_of(model).edits):
        live = last.live[row].nonzero()[:, 0].tolist()
        assert live == list(range(edit.start - 1, len(edit.ids) - 1))
    assert not last.x[~last.live].any()


def test_many_edits_are_read_in_passes_that_fit(monkeypatch):
    model = tiny_model()
    whole = signal_of(model, 5).factors()
    monkeypatch.setattr(type(model), "training_budget", 1)
    for name, part in signal_of(model, 5).factors().items():
        torch.testing.assert_close(part.delta, whole[name].delta, rtol=1e-4, atol=1e-6)


def test_edits_are_laid_out_by_group():
    signal = signal_of(tiny_model(), 5, per_group=2)
    of_edits = torch.arange(1.0, 6).reshape(5, 1, 1).expand(5, 2, 3)
    laid = signal.by_group(of_edits)
    assert laid.shape == (3, 4, 3)
    assert laid[:, :, 0].tolist() == [[1, 1, 2, 2], [3, 3, 4, 4], [5, 5, 0, 0]]
