import pytest
import torch

from editsweep.model import generation
from editsweep.model.generation import extend, greedy, write
from editsweep.model.memory import device_broken, in_halves, too_large
from editsweep.model.tiny import tiny_model

PROMPTS = ["The capital of France is", "Rome", "She lives in London;", "It is", "You were"]


def room_for(most, do):
    """`do`, for which there is memory up to so many items."""

    def tight(items):
        if len(items) > most:
            raise torch.OutOfMemoryError(f"no room for {len(items)}")
        return do(items)

    return tight


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_halves_come_in_order_and_nothing_is_done_twice(most):
    batches = [list("abcdefg"), ["h"], list("ij")]
    found = in_halves(batches, room_for(most, "".join), lambda *_: "!")
    assert "".join(found) == "abcdefghij"


def test_what_never_fits_is_told_alone():
    found = list(in_halves([[1, 2, 30, 4]], _only_small, lambda item, told: f"{item}: {told}"))
    assert found == [[1, 2], "30: can't allocate memory", [4]]
    error = too_large("this edit", "CUDA out of memory.\nTried to allocate")
    assert (error.kind, error.reason) == (
        "out_of_memory",
        "this edit does not fit into memory: CUDA out of memory.",
    )


def _only_small(items):
    if max(items) > 9:
        raise RuntimeError("can't allocate memory")
    return items


def test_other_errors_are_not_taken_for_memory():
    def broken(_):
        raise RuntimeError("a shape is wrong")

    with pytest.raises(RuntimeError, match="shape"):
        list(in_halves([[1, 2]], broken, lambda *_: None))


@pytest.fixture
def tight(monkeypatch):
    """Decoding has memory for two rows only, and finds out when some tokens are made."""
    rows = []

    def short(model, ids, patches, new_tokens, choose, ended=None):
        rows.append(len(ids))
        if len(ids) > 2:
            extend(model, ids, patches, 3, choose, ended)
            raise torch.OutOfMemoryError("too much")
        return extend(model, ids, patches, new_tokens, choose, ended)

    yield lambda: monkeypatch.setattr(generation, "extend", short)
    assert max(rows) == len(PROMPTS)
    assert {1, 2} == {n for n in rows if n < 3}


def test_out_of_memory_halves_what_speaks(tight):
    model, none = tiny_model(), [None] * len(PROMPTS)
    calm = greedy(model, PROMPTS, none, 6)
    tight()
    assert greedy(model, PROMPTS, none, 6) == calm


def test_the_dice_of_a_halved_batch_are_thrown_anew(tight):
    model, none, seeds = tiny_model(), [None] * len(PROMPTS), range(len(PROMPTS))
    calm = write(model, PROMPTS, none, 20, 5, seeds)
    tight()
    assert write(model, PROMPTS, none, 20, 5, seeds) == calm


def test_a_failed_kernel_ends_the_device_and_no_memory_does_not():
    failed = torch.AcceleratorError("CUDA error: device-side assert triggered")
    assert device_broken(failed)
    assert device_broken(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not device_broken(torch.OutOfMemoryError("CUDA out of memory"))
    assert not device_broken(RuntimeError("CUDA error: out of memory"))
    assert not device_broken(RuntimeError("shapes do not match"))
