"""The factor network: the identity at first, its own scale and offset for each matrix."""

import pytest
import torch

from editsweep.learn.residual import FactorNetworks, Normaliser, ResidualBlock
from editsweep.learn.signal import Factors


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def block(film="before", linear=False):
    made = ResidualBlock(6, 3, 2, film, linear)
    made.draw(torch.Generator().manual_seed(0))
    return made


@pytest.mark.parametrize("film", ["before", "after"])
def test_a_block_starts_as_the_identity_and_can_learn(film):
    made, z = block(film), drawn(5, 6)
    torch.testing.assert_close(made(z, 1), z)
    made(z, 1).square().sum().backward()
    assert made.u.grad.abs().sum() > 0


def test_scale_and_offset_stand_before_or_after_the_rectifier():
    z = drawn(4, 6)
    for film in ("before", "after"):
        made = block(film)
        torch.nn.init.normal_(made.u, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            made.scale[1], made.offset[1] = -2.0, 0.5
            h = z @ made.v @ made.u + made.b
            before = z + (-2 * h + 0.5).clamp(min=0)
            after = z - 2 * h.clamp(min=0) + 0.5
        torch.testing.assert_close(made(z, 1), before if film == "before" else after)
        assert not torch.allclose(made(z, 0), made(z, 1))


def test_only_a_linear_block_may_lower_its_input():
    z = drawn(4, 6)
    for linear in (True, False):
        made = block(linear=linear)
        torch.nn.init.normal_(made.u, generator=torch.Generator().manual_seed(1))
        assert bool((made(z, 0) < z).any()) is linear


def test_the_normaliser_gives_mean_0_and_deviation_1():
    made, seen = Normaliser(3), drawn(200, 3) * torch.tensor([1.0, 5.0, 0.0]) + 2
    assert torch.equal(made(seen), seen)
    for part in seen.split(30):
        made.observe(part)
    assert torch.equal(made(seen), seen)
    made.settle()
    out = made(seen)
    torch.testing.assert_close(out.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(0, correction=0), torch.tensor([1.0, 1.0, 0.0]))


def test_matrices_of_one_shape_share_a_network_but_not_its_modes():
    made = FactorNetworks({"a": (4, 2), "b": (4, 2), "c": (2, 4)}, 3, "before")
    assert len(made.networks) == 2
    seen = Factors(drawn(1, 3, 2), drawn(1, 3, 4))
    same = made("a", seen)[0]
    torch.testing.assert_close(made("b", seen)[0], same)
    with torch.no_grad():
        made.networks[0].blocks[0].offset[1] = 1.0
    torch.testing.assert_close(made("a", seen)[0], same)
    assert (made("b", seen)[0] - same).abs().max() > 0.5


def test_a_token_that_does_not_count_stays_zero():
    made = FactorNetworks({"a": (4, 2)}, 3, "before")
    with torch.no_grad():
        made.networks[0].blocks[0].offset.fill_(1.0)
    seen = Factors(drawn(1, 3, 2), drawn(1, 3, 4).index_fill(1, torch.tensor([1]), 0.0))
    x, delta = made("a", seen)
    assert not x[:, 1].any()
    assert not delta[:, 1].any()
    assert x[:, 0].any()
