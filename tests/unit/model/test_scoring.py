import pytest
import torch

from editsweep.errors import EditError
from editsweep.model import scoring
from editsweep.model.packing import Query
from editsweep.model.patch import Dense, LowRank, Patch
from editsweep.model.scoring import score
from editsweep.model.tiny import TINY_TYPES, tiny_model


def queries(model, patches=1):
    vocabulary = model.module.config.vocab_size
    dice = torch.Generator().manual_seed(1)
    made = []
    for patch in range(patches):
        stem = torch.randint(2, vocabulary, (6,), generator=dice).tolist()
        for length in (1, 2, 4):
            tail = torch.randint(2, vocabulary, (length,), generator=dice).tolist()
            made.append(Query(patch, (*stem, *tail), 6))
    return made


def plainly(model, query, deltas):
    """One text a forward, weights written and put back: what the engine must equal."""
    old = {name: model.weight(name).clone() for name in deltas}
    try:
        for name, delta in deltas.items():
            model.weight(name).add_(delta)
        logits = model.module(torch.tensor([query.ids])).logits[0].float()
    finally:
        for name, weight in old.items():
            model.weight(name).copy_(weight)
    logp = torch.log_softmax(logits, -1)[query.start - 1 : -1]
    wanted = torch.tensor(query.ids[query.start :])
    return logp[range(len(wanted)), wanted], logp.argmax(-1)


def patches_for(model, seed=0):
    dice = torch.Generator().manual_seed(seed)
    low, high = model.mlp_out(0), model.mlp_out(model.depth - 1)
    d_out, d_in = model.weight(low).shape
    rand = lambda *shape: torch.randn(*shape, generator=dice) / 3  # noqa: E731
    return [
        None,
        Patch({low: LowRank(rand(1, d_in), rand(1, d_out))}),
        Patch({low: LowRank(rand(3, d_in), rand(3, d_out)), high: Dense(rand(d_out, d_in))}),
        Patch({high: Dense(rand(d_out, d_in))}),
    ]


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_packed_rows_under_patches_equal_one_text_at_a_time(model_type):
    model = tiny_model(model_type)
    patches = patches_for(model)
    asked = queries(model, len(patches))
    for query, scores in zip(asked, score(model, asked, patches), strict=True):
        patch = patches[query.patch]
        deltas = {name: c.delta() for name, c in patch.adds.items()} if patch else {}
        logprobs, argmax = plainly(model, query, deltas)
        torch.testing.assert_close(torch.tensor(scores.logprobs), logprobs, rtol=1e-4, atol=1e-4)
        assert scores.argmax == tuple(argmax.tolist())


def test_the_budget_changes_nothing(monkeypatch):
    model = tiny_model()
    patches = patches_for(model)
    asked = queries(model, len(patches))
    wide = score(model, asked, patches)
    object.__setattr__(model, "token_budget", 8)
    monkeypatch.setattr(scoring, "PROJECTED", 2)
    for one, other in zip(wide, score(model, asked, patches), strict=True):
        assert one.argmax == other.argmax
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_out_of_memory_halves_the_batch(monkeypatch):
    model, asked, whole = tiny_model(), queries(tiny_model(), 4), scoring._pass
    sizes = []

    def tight(model, batch, *rest):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("too much")
        return whole(model, batch, *rest)

    calm = score(model, asked, [None] * 4)
    monkeypatch.setattr(scoring, "_pass", tight)
    assert [s.argmax for s in score(model, asked, [None] * 4)] == [s.argmax for s in calm]
    assert sizes[0] == 4
    assert sizes.count(1) == 4


def test_a_row_that_never_fits_says_so(monkeypatch):
    def never(*_):
        raise torch.OutOfMemoryError("too much")

    monkeypatch.setattr(scoring, "_pass", never)
    with pytest.raises(EditError, match=r"out_of_memory: .*does not fit .*too much"):
        score(tiny_model(), queries(tiny_model()), [None])


def test_other_errors_are_not_taken_for_memory(monkeypatch):
    def broken(*_):
        raise RuntimeError("a shape is wrong")

    monkeypatch.setattr(scoring, "_pass", broken)
    with pytest.raises(RuntimeError, match="shape"):
        score(tiny_model(), queries(tiny_model()), [None])
