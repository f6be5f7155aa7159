"""The shared linear algebra against the direct solution."""

import pytest
import torch

from editsweep.errors import ConfigError
from editsweep.model.solve import Metric, least_squares, null_space, ridge_factors, with_ridge
from editsweep.model.threads import threads

D_IN, D_OUT = 12, 5


def draw(seed, *shape):
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.double()


def moment(seed=0):
    """A positive definite matrix whose directions differ a hundredfold."""
    keys = draw(seed, 40, D_IN) * torch.logspace(-1, 1, D_IN).double()
    return keys.T @ keys / len(keys)


@pytest.mark.parametrize("n", [1, 4, 30])
def test_the_factors_are_the_ridge_solution(n):
    keys, values = draw(n, 3, n, D_IN), draw(n + 1, 3, n, D_OUT)
    damping = torch.tensor(0.7)
    direct = torch.linalg.solve(keys.mT @ keys + 0.7 * torch.eye(12).double(), keys.mT @ values)
    torch.testing.assert_close(keys.mT @ ridge_factors(keys, values, damping), direct)


def test_several_large_systems_on_several_threads():
    keys, values = draw(0, 3, 300, D_IN), draw(1, 3, 300, D_OUT)
    with threads(2):
        made = ridge_factors(keys, values, torch.tensor(0.7))
    gram = keys @ keys.mT + 0.7 * torch.eye(300).double()
    torch.testing.assert_close(gram @ made, values)


def test_keys_of_zeros_take_no_part():
    keys, values = draw(0, 4, 6).float(), draw(1, 4, 3).float()
    more = torch.cat([keys, torch.zeros(2, 6)]), torch.cat([values, torch.zeros(2, 3)])
    alone = ridge_factors(keys, values, torch.tensor(1.0))
    torch.testing.assert_close(ridge_factors(*more, torch.tensor(1.0))[:4], alone)


def test_the_ridge_is_a_share_of_the_mean_of_the_diagonal():
    c = moment()
    ridged = with_ridge(c, 0.5)
    torch.testing.assert_close(ridged - c, 0.5 * c.trace() / D_IN * torch.eye(D_IN).double())


@pytest.mark.parametrize("n", [1, 4, 30])
@pytest.mark.parametrize("identity", [True, False])
def test_woodbury_is_the_direct_solution(n, identity):
    """ΔW = R Kᵀ (λC + KKᵀ)⁻¹ with keys as columns (arXiv 2210.07229, eq. 14)."""
    keys, wanted, c = draw(n, n, D_IN), draw(n + 1, n, D_OUT), moment()
    metric = Metric() if identity else Metric.of(c)
    cost = torch.eye(D_IN).double() if identity else c
    direct = wanted.T @ keys @ torch.linalg.inv(3.0 * cost + keys.T @ keys)
    torch.testing.assert_close(wanted.T @ least_squares(keys, metric, 3.0), direct)


def test_without_damping_every_key_gets_what_is_wanted_at_the_least_cost():
    keys, wanted, c = draw(2, 4, D_IN), draw(3, 4, D_OUT), moment()
    change = wanted.T @ least_squares(keys, Metric.of(c), 0.0)
    torch.testing.assert_close(change @ keys.T, wanted.T)
    other = wanted.T @ torch.linalg.pinv(keys).T
    torch.testing.assert_close(other @ keys.T, wanted.T)
    assert (change @ c @ change.T).trace() < (other @ c @ other.T).trace()


def test_a_little_damping_interpolates():
    keys, wanted = draw(2, 4, D_IN), draw(3, 4, D_OUT)
    off = [
        float((wanted.T @ least_squares(keys, Metric.of(moment()), d) @ keys.T - wanted.T).norm())
        for d in (1.0, 1e-3, 1e-6)
    ]
    assert off[0] > 100 * off[1] > 10000 * off[2]


def test_the_same_key_twice_is_met_in_the_middle():
    key, wanted = draw(2, 1, D_IN), draw(3, 2, D_OUT)
    change = wanted.T @ least_squares(torch.cat([key, key]), Metric.of(moment()), 0.0)
    torch.testing.assert_close(change @ key[0], wanted.mean(0))


@pytest.mark.parametrize("n", [2, 30])
def test_within_a_basis_it_is_the_published_null_space_system(n):
    """(P(KKᵀ + Kₚ) + L2 I) X = P K Rᵀ, ΔW = Xᵀ (arXiv 2410.02355, eq. 14)."""
    basis = null_space(moment(), 1.0)
    assert 0 < basis.shape[1] < D_IN
    p, eye = basis @ basis.T, torch.eye(D_IN).double()
    keys, wanted, before = draw(n, n, D_IN), draw(n + 1, n, D_OUT), draw(9, 7, D_IN)
    seen = before.T @ before
    for kept, metric, damping in (
        (0 * seen, Metric(None, basis), 10.0),
        (seen, Metric.of(seen + 10 * eye, basis), 1.0),
    ):
        x = torch.linalg.solve(p @ (keys.T @ keys + kept) + 10 * eye, p @ keys.T @ wanted)
        torch.testing.assert_close(wanted.T @ least_squares(keys, metric, damping), x.T)


def test_a_change_in_the_null_space_leaves_the_used_directions_alone():
    c = moment()
    basis = null_space(c, 1.0)
    values, vectors = torch.linalg.eigh(c)
    used = vectors[:, values >= 1.0].T
    change = draw(3, 4, D_OUT).T @ least_squares(draw(2, 4, D_IN), Metric(None, basis), 0.1)
    assert float((change @ used.T).abs().max()) < 1e-12 * float(change.abs().max())
    assert used.shape[0] + basis.shape[1] == D_IN


def test_a_matrix_that_is_no_cost_is_refused():
    with pytest.raises(ConfigError, match="ridge"):
        Metric.of(-torch.eye(3))
