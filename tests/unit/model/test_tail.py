import pytest
import torch

from editsweep.model.hooks import adding
from editsweep.model.tail import Tail, TailRow
from editsweep.model.tiny import TINY_TYPES, tiny_model

ROWS = [TailRow((5, 6, 7, 8, 9, 10), 3), TailRow((11, 12), 0), TailRow((13, 14, 15, 16), 2)]


@pytest.mark.parametrize("model_type", TINY_TYPES)
@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_tail_equals_the_whole_model(model_type, first):
    model = tiny_model(model_type)
    name = model.mlp_out(first)
    bump = torch.linspace(-1, 1, model.weight(name).shape[0])
    tail = Tail.of(model, ROWS, first)

    def at_start(x):
        y = x.new_zeros(*x.shape[:-1], len(bump))
        y[:, 0] = bump
        return y

    with torch.no_grad(), adding(model, {name: at_start}):
        short = tail.run()
    for i, row in enumerate(ROWS):

        def at_place(x, place=row.start):
            y = x.new_zeros(*x.shape[:-1], len(bump))
            y[:, place] = bump
            return y

        with torch.no_grad():
            plain = model.module.base_model(torch.tensor([row.ids])).last_hidden_state[0]
            with adding(model, {name: at_place}):
                whole = model.module.base_model(torch.tensor([row.ids])).last_hidden_state[0]
        late = len(row.ids) - row.start
        torch.testing.assert_close(short[i, :late], whole[row.start :], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(tail.final[i, :late], plain[row.start :], rtol=1e-4, atol=1e-4)


def test_selected_rows_keep_their_numbers_and_the_model_its_blocks():
    model = tiny_model()
    tail = Tail.of(model, ROWS, 1)
    with torch.no_grad():
        whole = tail.run()
        some = tail.select(torch.tensor([2, 0])).run()
    torch.testing.assert_close(some, whole[[2, 0]], rtol=1e-5, atol=1e-5)
    assert model.depth == 3


def test_gradients_reach_the_addend():
    model = tiny_model()
    tail = Tail.of(model, ROWS, 1)
    bump = torch.zeros(3, tail.value.shape[-1], requires_grad=True)

    def add(x):
        return torch.nn.functional.pad(bump[:, None], (0, 0, 0, x.shape[1] - 1))

    with adding(model, {model.mlp_out(1): add}):
        tail.run()[0, 2].sum().backward()
    assert bump.grad[0].abs().sum() > 0
    assert bump.grad[1:].abs().sum() == 0
