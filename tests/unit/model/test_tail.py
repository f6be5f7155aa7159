import pytest
import torch

from editsweep.model.hooks import adding
from editsweep.model.tail import Tail, TailRow
from editsweep.model.tiny import TINY_TYPES, tiny_model

ROWS = [TailRow((5, 6, 7, 8, 9, 10), 3), TailRow((11, 12), 0), TailRow((13, 14, 15, 16), 2)]


# Seven layers of gemma3_text reach one whose attention and rotation are of the other kind.
MODELS = [(kind, 3, first) for kind in TINY_TYPES for first in range(3)] + [("gemma3_text", 7, 3)]


@pytest.mark.parametrize(("model_type", "layers", "first"), MODELS)
def test_the_tail_equals_the_whole_model(model_type, layers, first):
    model = tiny_model(model_type, layers=layers)
    name = model.mlp_out(first)
    bump = torch.linspace(-1, 1, model.weight(name).shape[0])
    tail = Tail.of(model, ROWS, first)

    change = torch.zeros_like(tail.value)
    change[:, 0] = bump
    with torch.no_grad():
        short = tail.run(change)
    for i, row in enumerate(ROWS):

        def at_place(x, place=row.start):
            y = x.new_zeros(*x.shape[:-1], len(bump))
            y[:, place] = bump
            return y

        with torch.no_grad(), adding(model, {name: at_place}):
            whole = model.module.base_model(torch.tensor([row.ids])).last_hidden_state[0]
        late = len(row.ids) - row.start
        torch.testing.assert_close(short[i, :late], whole[row.start :], rtol=1e-4, atol=1e-4)


def test_selected_rows_keep_their_numbers_and_the_model_its_blocks():
    model = tiny_model()
    tail = Tail.of(model, ROWS, 1)
    change = torch.linspace(-1, 1, tail.value.numel()).reshape(tail.value.shape)
    chosen = torch.tensor([2, 0])
    with torch.no_grad():
        whole = tail.run(change)
        some = tail.select(chosen).run(change[chosen])
    torch.testing.assert_close(some, whole[[2, 0]], rtol=1e-5, atol=1e-5)
    assert model.depth == 3


def test_gradients_reach_the_change():
    model = tiny_model()
    tail = Tail.of(model, ROWS, 1)
    change = torch.zeros_like(tail.value, requires_grad=True)
    tail.run(change)[0, 2].sum().backward()
    assert change.grad[0].abs().sum() > 0
    assert change.grad[1:].abs().sum() == 0
