"""The last blocks alone say what the whole model says."""

import pytest
import torch

from editsweep.model.families import FAMILIES
from editsweep.model.scoring import final_hidden
from editsweep.model.tiny import tiny_model
from editsweep.model.upper import Below, TokenRows, run_upper

ROWS = ((5, 9, 7, 3, 8, 2), (4, 6, 1), (11, 12, 13, 14))


@pytest.mark.parametrize("model_type", [family.model_types[0] for family in FAMILIES])
@pytest.mark.parametrize("first", [0, 2])
def test_it_goes_on_where_the_lower_blocks_end(model_type, first):
    model = tiny_model(model_type)
    rows = TokenRows.of(model, ROWS)
    with torch.no_grad():
        whole = final_hidden(model, rows.ids, rows.positions, rows.sees)
        upper = run_upper(model, rows, Below(model, first).hidden(ROWS), first)
    torch.testing.assert_close(upper[rows.real], whole[rows.real], rtol=1e-5, atol=1e-5)


def test_a_planned_row_is_computed_once_and_the_same_whoever_asks(monkeypatch, tmp_path):
    model = tiny_model()
    below = Below(model, 1, tmp_path)
    below.plan([ROWS[:2], ROWS])
    first = below.hidden([ROWS[1]])[0]
    monkeypatch.setattr("editsweep.model.upper.enter", lambda *_: pytest.fail("computed again"))
    beside = below.hidden(ROWS[:2])[1]
    assert torch.equal(beside[:3], first)
    assert not beside[3:].any()
    another = Below(model, 1, tmp_path)
    another.plan([ROWS[:2]])
    assert torch.equal(another.hidden([ROWS[1]])[0], first)
    monkeypatch.undo()
    whole = Below(model, 1)
    whole.plan([ROWS[:2], ROWS])
    assert torch.equal(whole.hidden(ROWS)[1][:3], first)


def test_a_folder_serves_one_model_and_one_block(tmp_path):
    seen = []
    for model, first in ((tiny_model(), 1), (tiny_model(), 2), (tiny_model(seed=1), 1)):
        below = Below(model, first, tmp_path)
        below.plan([ROWS])
        seen.append(below.hidden(ROWS))
    assert not torch.allclose(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2])


def test_it_keeps_no_more_in_memory_than_it_may():
    one = 4 * 32 * len(ROWS[0])
    for limit, kept in ((0, 0), (one, 1)):
        below = Below(tiny_model(), 1, memory_bytes=limit)
        below.plan([[row] for row in reversed(ROWS)])
        below.hidden(list(reversed(ROWS)))
        assert len(below._kept) == kept


def test_gradients_reach_what_hooks_add():
    model = tiny_model()
    rows, hidden = TokenRows.of(model, ROWS), Below(model, 1).hidden(ROWS)
    hidden.requires_grad_()
    run_upper(model, rows, hidden, 1)[rows.real].square().sum().backward()
    assert hidden.grad is not None
    assert hidden.grad[rows.real].abs().sum() > 0
