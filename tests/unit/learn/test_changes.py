"""A proposal answers in a batch what its patch answers alone."""

import torch

from editsweep.learn.changes import Proposal, patch_of, proposed
from editsweep.model.patch import Dense, LowRank, applied
from editsweep.model.scoring import final_hidden
from editsweep.model.tiny import tiny_model
from editsweep.model.upper import TokenRows


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 4


def proposals(model, shared=None):
    name = model.mlp_out(1)
    d_out, d_in = model.weight(name).shape
    return {name: Proposal(drawn(2, 3, d_in), drawn(2, 3, d_out, seed=1), shared)}


def test_rows_are_answered_for_their_group():
    model = tiny_model()
    made = proposals(model)
    rows = TokenRows.of(model, [(5, 6, 7), (5, 6, 7), (5, 6, 7)])
    args = (rows.ids, rows.positions, rows.sees)
    group = torch.tensor([1, 0, 1])
    with torch.no_grad():
        with proposed(model, made, group):
            together = final_hidden(model, *args)
        with applied(model, [patch_of(made, int(g)) for g in group]):
            patched = final_hidden(model, *args)
    torch.testing.assert_close(together, patched, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(together[0], together[2])
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_a_patch_keeps_only_what_changes_something():
    model = tiny_model()
    (name, proposal), *_ = proposals(model).items()
    proposal.a[0, 1], proposal.b[0, 2] = 0, 0
    change = patch_of({name: proposal}, 0).adds[name]
    assert isinstance(change, LowRank)
    assert change.rank == 1
    torch.testing.assert_close(change.delta(), proposal.b[0].T @ proposal.a[0])


def test_what_is_shared_or_of_full_rank_is_kept_dense():
    model = tiny_model()
    name = model.mlp_out(1)
    shared = drawn(*model.weight(name).shape, seed=2)
    change = patch_of(proposals(model, shared), 1).adds[name]
    assert isinstance(change, Dense)
    many = Proposal(drawn(1, 99, shared.shape[1]), drawn(1, 99, shared.shape[0], seed=1))
    change = many.change(0)
    assert isinstance(change, Dense)
    torch.testing.assert_close(change.delta(), many.b[0].T @ many.a[0])


def test_a_leaf_is_cut_off_and_wants_gradients():
    start = drawn(2, 2).requires_grad_()
    leaf = Proposal(drawn(1, 1, 2) * start[0, 0], drawn(1, 1, 2), start).leaf()
    assert all(t.is_leaf and t.requires_grad for t in leaf.tensors)
    leaf.a.sum().backward()
    assert start.grad is None
