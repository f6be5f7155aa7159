"""Linear algebra that several editors share, in float64.

Keys are rows K [n, d_in], wanted outputs are rows R [n, d_out]; a weight change is ΔW = Rᵀ A with
A [n, d_in], so that it is kept as two factors as long as n is small.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from editsweep.errors import ConfigError


def ridge_factors(keys: Tensor, values: Tensor, damping: Tensor) -> Tensor:
    """b [..., n, d_out] such that keysᵀ b is the ridge solution (keysᵀ keys + damping I)⁻¹ keysᵀ values.

    The matrix identity (KᵀK + λI)⁻¹Kᵀ = Kᵀ(KKᵀ + λI)⁻¹ makes the system n × n, which is small
    while there are fewer keys than dimensions, and leaves the solution as two factors.

    Args:
        keys: [..., n, d_in]; rows of zeros take no part.
        values: [..., n, d_out].
        damping: λ > 0, a scalar.
    """
    k, v, damp = keys.double(), values.double(), damping.double()
    gram = k @ k.mT + damp * torch.eye(k.shape[-2], dtype=k.dtype, device=k.device)
    # Not torch.linalg.solve, which several threads get wrong on a CPU (pytorch/pytorch#142815).
    solved: Tensor = torch.cholesky_solve(v, torch.linalg.cholesky_ex(gram).L)
    return solved.to(values.dtype)


def with_ridge(moment: Tensor, ridge: float) -> Tensor:
    """C + ridge · mean(diag C) · I, in float64."""
    wide = moment.double()
    eye = torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
    return wide + ridge * wide.diagonal().mean() * eye


@dataclass(frozen=True, eq=False)
class Metric:
    """What a change of a matrix costs: tr(ΔW M ΔWᵀ), within the span of `basis` if there is one.

    `factor` is the lower Cholesky factor of M, [d_in, d_in], or [r, r] in the coordinates of the
    orthonormal `basis` [d_in, r]. None is the identity.
    """

    factor: Tensor | None = None
    basis: Tensor | None = None

    @classmethod
    def of(cls, matrix: Tensor, basis: Tensor | None = None) -> "Metric":
        """M = `matrix` [d_in, d_in], or basisᵀ `matrix` basis.

        Raises:
            ConfigError: the matrix is not positive definite.
        """
        wide = matrix.double()
        factor, failed = torch.linalg.cholesky_ex(wide if basis is None else basis.T @ wide @ basis)
        if int(failed):
            raise ConfigError("the second moment is not positive definite: raise `ridge`")
        return cls(factor, basis)

    def directions(self, keys: Tensor) -> Tensor:
        """Keys [n, d_in] times M⁻¹ [n, d_in], in float64: the cheapest direction to reach each."""
        return self._back(self._solved(self._inside(keys)))

    def matrix(self, size: int) -> Tensor:
        """M itself, [size, size]."""
        if self.factor is None:
            return torch.eye(size, dtype=torch.float64)
        whole: Tensor = self.factor @ self.factor.T
        return whole

    def _inside(self, keys: Tensor) -> Tensor:
        """Keys in the coordinates in which M is kept."""
        return keys.double() if self.basis is None else keys.double() @ self.basis

    def _solved(self, inside: Tensor) -> Tensor:
        if self.factor is None:
            return inside
        solved: Tensor = torch.cholesky_solve(inside.T, self.factor).T
        return solved

    def _back(self, inside: Tensor) -> Tensor:
        return inside if self.basis is None else inside @ self.basis.T


def least_squares(keys: Tensor, metric: Metric, damping: float) -> Tensor:
    """A [n, d_in] for which ΔW = Rᵀ A minimises ‖ΔW Kᵀ − Rᵀ‖² + damping · tr(ΔW M ΔWᵀ), any R.

    A = (K M⁻¹ Kᵀ + damping I)⁻¹ K M⁻¹, n × n by Woodbury's identity; for damping 0 the keys get
    exactly what is wanted (at the least cost; with dependent keys, as nearly as can be). With more
    keys than dimensions, the same A is had from Aᵀ = (damping M + KᵀK)⁻¹ Kᵀ.
    """
    k = metric._inside(keys)
    n, size = k.shape
    if damping > 0 and n > size:
        cost = damping * metric.matrix(size).to(k.device) + k.T @ k
        found: Tensor = torch.cholesky_solve(k.T, torch.linalg.cholesky(cost)).T
        return metric._back(found)
    directions = metric._solved(k)
    gram = directions @ k.T
    gram = (gram + gram.T) / 2 + damping * torch.eye(n, dtype=gram.dtype, device=gram.device)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if int(failed):
        return metric._back(torch.linalg.pinv(gram, hermitian=True) @ directions)
    return metric._back(torch.cholesky_solve(directions, factor))


def null_space(moment: Tensor, threshold: float) -> Tensor:
    """Orthonormal directions of C whose mean square is below `threshold` [d_in, r] (float64)."""
    values, vectors = torch.linalg.eigh(moment.double())
    unused: Tensor = vectors[:, values < threshold].contiguous()
    return unused
