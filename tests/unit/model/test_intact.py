import pytest
import torch

from editsweep.model.intact import changed, checksums
from editsweep.model.tiny import TINY_TYPES, tiny_model


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_one_bit_of_any_weight_is_seen(model_type):
    model = tiny_model(model_type)
    before = checksums(model)
    assert changed(before, model) == []
    for name, tensor in model.module.named_parameters():
        last = tensor.detach().view(-1)[-1:].view(torch.int32)
        last ^= 1
        assert changed(before, model) == [name]
        last ^= 1
    assert changed(before, model) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_and_a_size_that_is_no_multiple_of_eight_bytes(dtype):
    model = tiny_model()
    model.module.to(dtype)
    model.module.register_buffer("odd", torch.ones(11, dtype=torch.uint8)[1:4])
    before = checksums(model)
    model.module.odd[2] = 7
    assert changed(before, model) == ["odd"]


def test_a_weight_that_is_gone_or_new_is_seen():
    model = tiny_model()
    before = checksums(model)
    model.module.register_buffer("new", torch.ones(2))
    assert changed(before, model) == ["new"]
    assert changed({**checksums(model), "old": 1}, model) == ["old"]
