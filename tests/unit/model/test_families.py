"""Every row of the family table, held against a running random model of each of its types."""

from types import SimpleNamespace

import pytest
import torch

from editsweep.errors import ModelError
from editsweep.model.families import FAMILIES, family_of
from editsweep.model.tiny import TINY_TYPES, tiny_model


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_the_row_says_what_the_model_does(model_type):
    model = tiny_model(model_type)
    family, seen = model.family, {}
    block = model.blocks[1]
    parts = (family.attention, *family.attention_in, family.attention_out)
    parts += (family.mlp, *family.mlp_in, family.mlp_out)
    for part in ("", *parts):
        block.get_submodule(part).register_forward_hook(
            lambda _, args, output, part=part: seen.__setitem__(part, (args, output))
        )
    with torch.no_grad():
        model.module(torch.arange(2, 9)[None])

    returned = seen[""][1]
    assert isinstance(returned, tuple) == (family.block_returns == "tuple")
    hidden = returned[0] if isinstance(returned, tuple) else returned
    assert hidden.shape == (1, 7, 32)
    attended = seen[family.attention][1]
    torch.testing.assert_close(
        attended[0] if isinstance(attended, tuple) else attended, seen[family.attention_out][1]
    )
    assert model.attention_out(1).endswith(family.attention_out)
    for part, inner in zip(family.attention_in, model.attention_in(1), strict=True):
        assert seen[part][0][0].shape == (1, 7, 32)
        assert seen[part][1].shape == (1, 7, len(model.weight(inner)))
    attention = [n for n, _ in block.named_modules() if n.startswith(f"{family.attention}.")]
    linear = {n for n in attention if getattr(block.get_submodule(n), "weight", None) is not None}
    linear = {n for n in linear if block.get_submodule(n).weight.dim() == 2}
    assert linear == {*family.attention_in, family.attention_out}
    assert len(model.block_matrices(1)) == len(family.attention_in) + 2 + len(family.mlp_in)
    (x,), y = seen[family.mlp_out]
    name = model.mlp_out(1)
    assert model.module.get_submodule(name) is block.get_submodule(family.mlp_out)
    weight, bias = model.weight(name), getattr(model.module.get_submodule(name), "bias", None)
    assert weight.shape == (32, 64)
    torch.testing.assert_close(x @ weight.T + (0 if bias is None else bias), y)
    torch.testing.assert_close(seen[family.mlp][1], y)
    assert model.mlp_matrices(1)[-1] == name
    for part, inner in zip(family.mlp_in, model.mlp_matrices(1)[:-1], strict=True):
        assert model.weight(inner).shape == (64, 32)
        assert seen[part][0][0].shape == (1, 7, 32)


def test_no_type_stands_in_two_rows():
    types = [kind for family in FAMILIES for kind in family.model_types]
    assert len(types) == len(set(types))


def test_an_unknown_type_is_told_the_known_ones_and_where_to_add_it():
    with pytest.raises(ModelError, match=r"'mamba'.*gpt_neox.*families\.py"):
        family_of(SimpleNamespace(model_type="mamba"))
