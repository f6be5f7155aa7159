"""Singular values of changes and of weights, in float64."""

from typing import NamedTuple

import torch
from torch import Tensor

from editsweep.model.patch import Change, LowRank


class Spectrum(NamedTuple):
    """A change as U diag(s) V: u [d_out, r], s [r] descending, v [r, d_in], all float64."""

    u: Tensor
    s: Tensor
    v: Tensor


def spectrum(change: Change) -> Spectrum:
    """The thin singular value decomposition of the weight change.

    Two factors are decomposed by themselves (bᵀ = Q₁R₁ and aᵀ = Q₂R₂, then R₁R₂ᵀ, which is
    [rank, rank]), so the whole matrix is never made.
    """
    if not isinstance(change, LowRank):
        return Spectrum(*torch.linalg.svd(change.delta().double(), full_matrices=False))
    out, into = torch.linalg.qr(change.b.T.double()), torch.linalg.qr(change.a.T.double())
    u, s, v = torch.linalg.svd(out.R @ into.R.T, full_matrices=False)
    return Spectrum(out.Q @ u, s, v @ into.Q.T)


def largest_singular_value(weight: Tensor) -> float:
    """The spectral norm of a matrix, by way of the Gram matrix of its shorter side."""
    w = weight.double()
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    return float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0).sqrt())
