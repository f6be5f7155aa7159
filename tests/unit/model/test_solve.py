"""The shared linear algebra against the direct solution."""

import pytest
import torch

from editsweep.model.solve import ridge_factors


@pytest.mark.parametrize("n", [1, 4, 30])
def test_the_factors_are_the_ridge_solution(n):
    draw = torch.Generator().manual_seed(n)
    keys = torch.randn(3, n, 12, generator=draw, dtype=torch.float64)
    values = torch.randn(3, n, 5, generator=draw, dtype=torch.float64)
    damping = torch.tensor(0.7)
    direct = torch.linalg.solve(keys.mT @ keys + 0.7 * torch.eye(12).double(), keys.mT @ values)
    torch.testing.assert_close(keys.mT @ ridge_factors(keys, values, damping), direct)


def test_keys_of_zeros_take_no_part():
    draw = torch.Generator().manual_seed(0)
    keys, values = torch.randn(4, 6, generator=draw), torch.randn(4, 3, generator=draw)
    more = torch.cat([keys, torch.zeros(2, 6)]), torch.cat([values, torch.zeros(2, 3)])
    alone = ridge_factors(keys, values, torch.tensor(1.0))
    torch.testing.assert_close(ridge_factors(*more, torch.tensor(1.0))[:4], alone)
