import math

import pytest
import torch

from editsweep.errors import ConfigError, EditError
from editsweep.model.patch import Dense, LowRank, Patch, difference
from editsweep.model.restrain import Restraint, prune, rect
from editsweep.model.spectrum import largest_singular_value, spectrum
from editsweep.model.tiny import tiny_model


def some_patch(model, scale=1.0):
    """A change of two factors, and a whole matrix of rank 5."""
    dice = torch.Generator().manual_seed(7)
    d_out, d_in = model.weight(model.mlp_out(0)).shape

    def draw(*shape):
        return torch.randn(*shape, generator=dice)

    low = LowRank(scale * draw(3, d_in), draw(3, d_out))
    dense = Dense(scale * draw(d_out, 5) @ draw(5, d_in))
    return Patch({model.mlp_out(0): low, model.mlp_out(1): dense}, prefix="said first")


def reference_prune(model, patch, base):
    """Every matrix decomposed whole, with the formula of the paper."""
    adds = {}
    for name, change in patch.adds.items():
        limit = torch.linalg.svdvals(model.weight(name).double())[0]
        u, s, v = torch.linalg.svd(change.delta().double(), full_matrices=False)
        lowered = (s / limit).log() / math.log(base) + limit
        s = torch.where(s > limit, torch.minimum(lowered, s), s)
        adds[name] = Dense((u @ torch.diag(s) @ v).float())
    return Patch(adds, patch.prefix)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request):
    return tiny_model(request.param)


def test_rect_that_keeps_everything_is_the_identity(model):
    patch = some_patch(model)
    assert difference(rect(model, patch, keep=1), patch) == 0
    assert difference(rect(model, patch, keep=0.999999), patch) < 1e-6


@pytest.mark.parametrize("keep", [0.4, 0.1])
def test_rect_keeps_the_largest_relative_changes_and_as_many_as_it_says(model, keep):
    patch = some_patch(model)
    restrained = rect(model, patch, keep)
    assert restrained.prefix == patch.prefix
    for name, change in patch.adds.items():
        delta, left = change.delta(), restrained.adds[name].delta()
        kept = left != 0
        assert int(kept.sum()) == round(keep * delta.numel())
        assert torch.equal(left[kept], delta[kept])
        relative = (delta / model.weight(name)).abs()
        assert relative[kept].min() >= relative[~kept].max()


def test_rect_takes_a_weight_of_zero_for_a_small_one():
    model = tiny_model()
    name = model.mlp_out(0)
    delta = torch.full_like(model.weight(name), 0.001)
    delta[0, 0] = 0
    weight = model.weight(name)
    old = weight.clone()
    try:
        weight[0, :3] = 0
        left = rect(model, Patch({name: Dense(delta)}), keep=2 / delta.numel()).adds[name].delta()
    finally:
        weight.copy_(old)
    assert torch.nonzero(left).tolist() == [[0, 1], [0, 2]]


def test_prune_leaves_small_changes_alone(model):
    patch = some_patch(model, scale=1e-3)
    restrained = prune(model, patch)
    assert all(restrained.adds[name] is change for name, change in patch.adds.items())


def test_prune_decides_by_singular_values_where_norms_cannot_tell(model):
    name = model.mlp_out(0)
    weight = model.weight(name)
    u, _, v = torch.linalg.svd(weight, full_matrices=False)
    below = 0.9 * largest_singular_value(weight)
    flat = Dense(below * u @ v)  # every singular value just below: a long Frobenius norm
    assert prune(model, Patch({name: flat})).adds[name] is flat


@pytest.mark.parametrize("base", [math.e, 1.2])
@pytest.mark.parametrize("scale", [0.02, 0.3, 20.0])
def test_prune_is_what_a_whole_decomposition_gives(model, base, scale):
    patch = some_patch(model, scale)
    restrained = prune(model, patch, base)
    assert difference(restrained, reference_prune(model, patch, base)) < 1e-5
    kinds = [type(change) for change in restrained.adds.values()]
    assert kinds == [LowRank, Dense]
    assert restrained.prefix == patch.prefix


def test_prune_holds_large_values_down_and_never_raises_one(model):
    patch = some_patch(model, scale=20.0)
    restrained = prune(model, patch)
    for name, change in patch.adds.items():
        limit = largest_singular_value(model.weight(name))
        before, after = spectrum(change).s, spectrum(restrained.adds[name]).s
        assert before[0] > 10 * limit
        assert after[0] == pytest.approx(limit + math.log(before[0] / limit), rel=1e-4)
        assert bool((after <= before * (1 + 1e-5) + 1e-4).all())


def test_prune_does_not_enlarge_where_the_weight_is_small():
    model = tiny_model()
    name = model.mlp_out(0)
    weight = model.weight(name)
    old = weight.clone()
    patch = Patch(
        {name: LowRank(torch.eye(1, weight.shape[1]), 0.3 * torch.eye(1, weight.shape[0]))}
    )
    try:
        weight.mul_(0.2 / largest_singular_value(weight))
        assert prune(model, patch).norm == pytest.approx(0.3)  # log 1.5 + 0.2 would be 0.61
        weight.zero_()
        assert prune(model, patch).norm == pytest.approx(0.3)
    finally:
        weight.copy_(old)


def test_a_spectrum_is_the_change_and_finds_its_rank():
    dice = torch.Generator().manual_seed(1)
    a, b = torch.randn(3, 8, generator=dice), torch.randn(3, 6, generator=dice)
    doubled = LowRank(torch.cat([a, a]), torch.cat([b, b]))
    u, s, v = spectrum(doubled)
    torch.testing.assert_close((u * s) @ v, doubled.delta().double(), atol=1e-5, rtol=1e-5)
    assert int((s > 1e-5).sum()) == 3
    many = LowRank(torch.randn(20, 8, generator=dice), torch.randn(20, 6, generator=dice))
    torch.testing.assert_close(
        spectrum(many).s, torch.linalg.svdvals(many.delta().double()), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("value", "expected", "shown"),
    [
        ("rect", Restraint("rect", 0.4), "rect"),
        ({"rect": 0.25}, Restraint("rect", 0.25), "rect=0.25"),
        ({"rect": 1}, Restraint("rect", 1.0), "rect=1"),
        ("prune", Restraint("prune", math.e), "prune"),
        ({"prune": 1.2}, Restraint("prune", 1.2), "prune=1.2"),
    ],
)
def test_a_restraint_is_read_and_shown(value, expected, shown):
    assert Restraint.parse(value) == expected
    assert str(expected) == shown
    assert Restraint.parse(expected.plain) == expected
    assert expected.each_step == (expected.kind == "rect")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("rekt", "did you mean 'rect'?"),
        ({"rect": 0}, "above 0 and at most 1"),
        ({"rect": 1.5}, "above 0 and at most 1"),
        ({"rect": "0.4"}, "above 0 and at most 1"),
        ({"rect": None}, "above 0 and at most 1"),
        ({"prune": 1}, "base, above 1"),
        ({"prune": True}, "base, above 1"),
        ({"rect": 0.4, "prune": 2}, "write `rect`"),
        (["rect"], "write `rect`"),
    ],
)
def test_other_restraints_are_refused(value, told):
    with pytest.raises(ConfigError, match=told):
        Restraint.parse(value)


def test_a_restraint_is_applied_to_finite_patches_only(model):
    patch = some_patch(model)
    assert (
        difference(Restraint.parse({"rect": 0.2}).apply(model, patch), rect(model, patch, 0.2)) == 0
    )
    assert (
        difference(Restraint.parse({"prune": 2}).apply(model, patch), prune(model, patch, 2)) == 0
    )
    broken = Patch(
        {model.mlp_out(0): Dense(torch.full_like(model.weight(model.mlp_out(0)), math.nan))}
    )
    with pytest.raises(EditError, match="not finite"):
        Restraint.parse("prune").apply(model, broken)
