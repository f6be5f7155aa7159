"""Hooks are gone when their block is over, however it ends."""

import pytest
import torch

from editsweep.model.hooks import adding, held
from editsweep.model.tiny import tiny_model


def hooks(model):
    return [hook for module in model.module.modules() for hook in module._forward_hooks.values()]


def test_a_block_that_raises_leaves_no_hook():
    model = tiny_model()
    with pytest.raises(ZeroDivisionError), adding(model, {model.mlp_out(0): torch.abs}):
        raise ZeroDivisionError(len(hooks(model)))
    assert hooks(model) == []


def test_a_module_that_is_not_there_leaves_none_of_those_before_it():
    model = tiny_model()
    with (
        pytest.raises(AttributeError),
        adding(model, {model.mlp_out(0): torch.abs, "no.such": abs}),
    ):
        pass
    assert hooks(model) == []


def test_many_are_held_together():
    model = tiny_model()
    blocks = model.blocks[:2]
    with held(block.register_forward_hook(print) for block in blocks):
        assert len(hooks(model)) == 2
    assert hooks(model) == []
