"""The learned editors: low-rank forms, identity starts, what a trained one answers."""

from dataclasses import replace

import pytest
import torch

from editsweep.core.types import Corpus, EditRequest
from editsweep.editors.enn import EnnMethod, EnnSpec
from editsweep.editors.ke import Gates, KeMethod, KeSpec, gradient_norms
from editsweep.editors.malmen import MalmenMethod, MalmenSpec
from editsweep.editors.mend import MendMethod, MendSpec
from editsweep.errors import ConfigError
from editsweep.learn.examples import encode_edit
from editsweep.learn.network import make_network, place_of
from editsweep.learn.signal import Factors, Signal, gradient
from editsweep.learn.training import Training
from editsweep.model.patch import Dense, LowRank, difference
from editsweep.model.tiny import tiny_model
from editsweep.model.upper import Below
from editsweep.testing import tiny_requests

TRAINING = Training(
    steps=4, models=4, every=2, validate=6, observe=8, records=60, share=0.2, rate=1e-2, warmup=1
)
SPECS = {
    "mend": MendSpec(network=MendMethod(blocks=2, rank=8), training=TRAINING),
    "ke": KeSpec(
        network=KeMethod(blocks=2, hidden=8, code=16, bottleneck=8),
        training=replace(TRAINING, margin=1e-3),
    ),
    "malmen": MalmenSpec(
        network=MalmenMethod(blocks=2, rank=8), training=replace(TRAINING, models=2, edits=2)
    ),
    "enn": EnnSpec(network=EnnMethod(blocks=2), training=TRAINING),
}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def signal_of(method, n=3, per_group=1):
    model = tiny_model()
    place = place_of(method, model)
    edits = [encode_edit(model, request) for request in tiny_requests(n)]
    groups = [edits[i : i + per_group] for i in range(0, n, per_group)]
    return model, Signal.of(Below(model, place.first), place.modules, groups)


def built(name):
    model, spec = tiny_model(), SPECS[name]
    corpus = Corpus(tuple(tiny_requests(60)))
    assets = {key: need.make(model, corpus) for key, need in spec.requirements().items()}
    return model, spec.build(model, assets)


@pytest.mark.parametrize(("method", "rate"), [(MendMethod(), 0.3), (EnnMethod(), 1e-2)])
def test_an_untouched_network_leaves_the_plain_gradient_step(method, rate):
    method = replace(method, blocks=2, rate=rate)
    model, signal = signal_of(method)
    proposals = make_network(method, model, 0).propose(signal)
    for name, factors in signal.factors().items():
        for group in range(3):
            step = -rate * gradient(factors)[group]
            change = proposals[name].change(group).delta()
            assert (change - step).norm() <= 1e-5 * step.norm()


def test_an_untouched_ke_gates_nothing():
    method = KeMethod(blocks=2, hidden=8, code=16, bottleneck=8, rate=0.5)
    model, signal = signal_of(method)
    network = make_network(method, model, 0)
    with torch.no_grad():
        for conditioner in network.conditioners:
            conditioner.last.weight.zero_()
    for name, factors in signal.factors().items():
        step = -0.5 * gradient(factors)[1]
        change = network.propose(signal)[name].change(1).delta()
        assert (change - step).norm() <= 1e-5 * step.norm()


def test_kes_low_rank_form_is_the_dense_one():
    gates = Gates(
        drawn(2, 5), drawn(2, 7, seed=1), drawn(2, 5, seed=2), drawn(2, 7, seed=3), drawn(2)
    )
    factors = Factors(drawn(2, 4, 7, seed=4), drawn(2, 4, 5, seed=5))
    a, b = gates.factors(factors.x, factors.delta)
    torch.testing.assert_close(b.mT @ a, gates.dense(gradient(factors)))
    norms = gradient(factors).flatten(1).norm(dim=1)
    torch.testing.assert_close(gradient_norms(factors), norms)


def test_malmen_is_the_least_squares_solution():
    method = MalmenMethod(blocks=2, rank=8, damping=0.5)
    model, signal = signal_of(method, n=4, per_group=4)
    network = make_network(method, model, 0)
    for index, (name, seen) in enumerate(signal.factors().items()):
        x, delta = network.mapping(name, seen)
        rate = network.log_rate.exp()[index]
        keys = seen.x[seen.live].double()
        values = (-rate * (seen.x * x).sum(-1, keepdim=True) * delta)[seen.live].double()
        eye = 0.5 * torch.eye(keys.shape[1]).double()
        whole = torch.linalg.solve(keys.T @ keys + eye, keys.T @ values).T.float()
        change = network.propose(signal)[name].change(0).delta()
        assert (change - whole).norm() <= 1e-4 * whole.norm()


@pytest.mark.parametrize("name", SPECS)
def test_a_trained_network_edits_each_group_on_its_own(name):
    model, editor = built(name)
    groups = [[request] for request in tiny_requests(64)[60:]]
    patches = [edited.patch for edited in editor.edit(groups, 0)]
    for group, patch in zip(groups, patches, strict=True):
        (alone,) = editor.edit([group], 1)
        assert difference(alone.patch, patch) < 1e-4
        assert set(patch.adds) == {m for layer in (1, 2) for m in model.mlp_matrices(layer)}
        assert all(isinstance(c, Dense if name == "enn" else LowRank) for c in patch.adds.values())
    assert difference(patches[0], patches[1]) > 1e-3


@pytest.mark.parametrize("name", ["mend", "malmen", "enn"])
def test_a_batch_is_one_change(name):
    _, editor = built(name)
    requests = tiny_requests(63)[60:]
    (edited,) = editor.edit([requests], 0)
    singles = [e.patch for e in editor.edit([[r] for r in requests], 0)]
    assert edited.patch.rank >= max(p.rank for p in singles)
    assert all(difference(edited.patch, single) > 1e-3 for single in singles)


def test_an_edit_that_has_no_tokens_is_a_failure_of_its_own():
    _, editor = built("mend")
    bare = EditRequest.of(None, "", "Rome")
    bad, good = editor.edit([[bare], [tiny_requests(1)[0]]], 0)
    assert bad.error is not None
    assert good.patch is not None


def test_memory_bounds_a_pass_not_the_result(monkeypatch):
    _, editor = built("mend")
    groups = [[request] for request in tiny_requests(63)[60:]]
    whole = editor.edit(groups, 0)
    monkeypatch.setattr("editsweep.editors.learned.MEMORY_BYTES", 1)
    for p, q in zip(whole, editor.edit(groups, 0), strict=True):
        assert difference(p.patch, q.patch) < 1e-4


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: MendSpec(network=MendMethod(rank=0)), "rank"),
        (lambda: KeSpec(training=Training(edits=2)), "edits"),
        (lambda: MalmenSpec(network=MalmenMethod(damping=0.0)), "damping"),
        (lambda: EnnSpec(network=EnnMethod(steps=0)), "steps"),
    ],
)
def test_what_cannot_run_is_refused(make, told):
    with pytest.raises(ConfigError, match=told):
        make()


def test_more_blocks_than_there_are_are_refused():
    with pytest.raises(ConfigError, match="has 1 to 3"):
        place_of(MendMethod(blocks=4), tiny_model())
