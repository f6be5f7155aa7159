"""Linear algebra that several editors share, in float64."""

import torch
from torch import Tensor


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
    solved: Tensor = torch.linalg.solve(gram, v)
    return solved.to(values.dtype)
