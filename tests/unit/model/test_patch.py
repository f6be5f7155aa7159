import pytest
import torch

from editsweep.errors import StoreError
from editsweep.model.merge import load_patch, merged, save_patch
from editsweep.model.patch import Dense, LowRank, Patch, added, applied, difference, low_rank
from editsweep.model.tiny import TINY_TYPES, tiny_model


def some_patch(model):
    dice = torch.Generator().manual_seed(3)
    d_out, d_in = model.weight(model.mlp_out(0)).shape
    low = LowRank(torch.randn(2, d_in, generator=dice), torch.randn(2, d_out, generator=dice))
    return Patch(
        {model.mlp_out(0): low, model.mlp_out(1): Dense(torch.randn(d_out, d_in, generator=dice))},
        prefix="New Fact: 李宏毅\n",
    )


def test_sizes():
    patch = some_patch(tiny_model())
    whole = sum(float(c.delta().norm()) ** 2 for c in patch.adds.values()) ** 0.5
    assert patch.norm == pytest.approx(whole, rel=1e-6)
    assert patch.rank == min(tiny_model().weight(tiny_model().mlp_out(1)).shape)
    held = sum(t.nbytes for c in patch.adds.values() for t in c.tensors.values())
    assert patch.nbytes == held + len(patch.prefix.encode())
    assert patch.finite
    assert not Patch({"x": Dense(torch.tensor([[float("nan")]]))}).finite


def test_difference():
    model = tiny_model()
    patch = some_patch(model)
    assert difference(patch, patch) == 0
    assert difference(None, None) == 0
    assert difference(None, patch) == float("inf")
    name = model.mlp_out(0)
    low = patch.adds[name]
    twice = Patch({name: LowRank(2 * low.a, low.b)})
    assert difference(Patch({name: low}), twice) == pytest.approx(0.5)


def test_a_change_is_stored_as_what_is_smaller():
    dice = torch.Generator().manual_seed(5)
    few, many = (torch.randn(n, 8, generator=dice) for n in (2, 20))
    assert isinstance(low_rank(few, few), LowRank)
    assert isinstance(low_rank(many, many), Dense)
    torch.testing.assert_close(low_rank(many, many).delta(), many.T @ many)


def test_added_patches_add_their_changes():
    model = tiny_model()
    p, q = some_patch(model), Patch({model.mlp_out(1): some_patch(model).adds[model.mlp_out(0)]})
    both = added(added(p, q), p)
    assert both.adds.keys() == p.adds.keys()
    for name, change in both.adds.items():
        parts = [patch.adds[name].delta() for patch in (p, q, p) if name in patch.adds]
        torch.testing.assert_close(change.delta(), sum(parts))
    assert both.prefix == 2 * p.prefix
    assert added(Patch(), p).adds == p.adds


def test_a_change_that_all_rows_share_is_not_copied_for_each():
    model = tiny_model()
    name = model.mlp_out(0)
    change = Patch({name: some_patch(model).adds[name]})
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    with applied(model, [change, change]):
        shared = model.module(ids).logits
    with applied(model, [change, Patch(dict(change.adds))]):
        same = model.module(ids).logits
    with merged(model, change):
        written = model.module(ids).logits
    torch.testing.assert_close(shared, same)
    torch.testing.assert_close(shared, written, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_applied_equals_merged_and_the_old_bits_come_back(model_type):
    model = tiny_model(model_type)
    patch = some_patch(model)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    ids = torch.tensor([[5, 6, 7, 8]])
    plain = model.module(ids).logits
    with applied(model, [patch]):
        hooked = model.module(ids).logits
    with merged(model, patch):
        written = model.module(ids).logits
    torch.testing.assert_close(hooked, written, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain, written, atol=1e-3)
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert torch.equal(model.module(ids).logits, plain)


def test_merged_restores_after_an_error():
    model = tiny_model()
    before = model.weight(model.mlp_out(0)).clone()
    with pytest.raises(ValueError, match="stop"), merged(model, some_patch(model)):
        raise ValueError("stop")
    assert torch.equal(model.weight(model.mlp_out(0)), before)


def test_a_saved_patch_reads_back(tmp_path):
    patch = some_patch(tiny_model())
    save_patch(patch, tmp_path / "p.safetensors")
    read = load_patch(tmp_path / "p.safetensors")
    assert difference(patch, read) == 0
    assert read.prefix == patch.prefix
    save_patch(Patch(prefix="only text"), tmp_path / "q.safetensors")
    assert load_patch(tmp_path / "q.safetensors").prefix == "only text"


def test_another_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(StoreError, match="not a patch"):
        load_patch(tmp_path / "other.safetensors")
