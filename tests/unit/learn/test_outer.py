"""The outer loss against the same sums written out, and what counts as right."""

import pytest
import torch

from editsweep.learn.changes import Proposal
from editsweep.learn.examples import WANTED, examples
from editsweep.learn.outer import Outer
from editsweep.model.tiny import tiny_model
from editsweep.model.upper import Below
from editsweep.testing import tiny_requests


def setting(n=4, scale=0.3):
    model = tiny_model()
    found, left = examples(model, tiny_requests(n))
    assert not left
    name, draw = model.mlp_out(1), torch.Generator().manual_seed(0)
    d_out, d_in = model.weight(name).shape
    a = torch.randn(n, 2, d_in, generator=draw)
    b = torch.randn(n, 2, d_out, generator=draw) * scale
    return model, [[example] for example in found], {name: Proposal(a, b)}


def logits_of(model, proposals, group, ids):
    """Of one row, by a model whose weights are really written."""
    (name, proposal), *_ = proposals.items()
    weight, change = model.weight(name), proposal.change(group).delta()
    with torch.no_grad():
        weight += change
        out = model.module(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        weight -= change
    return out


def test_it_is_the_sum_written_out():
    model, groups, proposals = setting()
    tally = Outer(Below(model, 1)).tally(proposals, groups)
    nothing = {n: Proposal(p.a * 0, p.b) for n, p in proposals.items()}
    wanted = kept = 0.0
    for g, (example,) in enumerate(groups):
        for line in (*example.wanted, *example.kept):
            at = list(line.at)
            after = logits_of(model, proposals, g, line.ids)[at]
            if line.axis in WANTED:
                nll = -after.gather(1, torch.tensor(line.tokens)[:, None]).mean()
                wanted += line.weight * float(nll)
            else:
                before = logits_of(model, nothing, g, line.ids)[at]
                kept += line.weight * float((before.exp() * (before - after)).sum(-1).mean())
    assert tally.wanted == pytest.approx(wanted, rel=1e-4)
    assert tally.kept == pytest.approx(kept, rel=1e-3)
    assert kept > 0


def test_without_a_change_nothing_diverges_and_all_is_as_before():
    model, groups, proposals = setting(scale=0.0)
    tally = Outer(Below(model, 1)).tally(proposals, groups)
    assert tally.kept == pytest.approx(0, abs=1e-6)
    assert tally.rates()["locality"] == 1
    assert tally.rates()["reliability"] < 1


def test_gradients_are_those_of_the_loss_and_do_not_depend_on_the_passes(monkeypatch):
    model, groups, proposals = setting()
    (name, proposal), *_ = proposals.items()

    def gradient():
        leaf = {name: proposal.leaf()}
        Outer(Below(model, 1)).add_gradients(leaf, groups, 0.5, 0.25)
        return leaf[name].b.grad

    def loss(b):
        tally = Outer(Below(model, 1)).tally({name: Proposal(proposal.a, b)}, groups)
        return 0.25 * (tally.wanted + 0.5 * tally.kept)

    whole, step = gradient(), 1e-2
    for spot in ((0, 0, 3), (2, 1, 7)):
        bump = torch.zeros_like(proposal.b)
        bump[spot] = step
        slope = (loss(proposal.b + bump) - loss(proposal.b - bump)) / (2 * step)
        assert float(whole[spot]) == pytest.approx(slope, rel=2e-2, abs=1e-5)
    monkeypatch.setattr(type(model), "training_budget", 1)
    torch.testing.assert_close(gradient(), whole, rtol=1e-4, atol=1e-6)


def test_wanted_weights_are_equal_by_axis_and_sum_to_1():
    model = tiny_model()
    (example, *_), _ = examples(model, tiny_requests(1))
    assert sum(line.weight for line in example.wanted) == pytest.approx(1)
    assert sum(line.weight for line in example.kept) == pytest.approx(1)
    by_axis = {line.axis: 0.0 for line in example.wanted}
    for line in example.wanted:
        by_axis[line.axis] += line.weight
    assert len(by_axis) > 1
    assert max(by_axis.values()) == pytest.approx(min(by_axis.values()))
