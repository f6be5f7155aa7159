"""The residual network that maps gradient factors to gradient factors (MEND, MALMEN).

One network serves all matrices of a shape; each matrix has a scale and an offset of its own in
every block, and an input normaliser. At the start it is the identity.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from editsweep.learn.network import Network
from editsweep.learn.signal import Factors, FactorsByModule

BLOCKS = 2


class Normaliser(nn.Module):
    """Mean and standard deviation of each input dimension, over the tokens that were observed.

    Before any was observed it is the identity. After `settle` nothing moves it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self._count = 0
        self._sum = torch.zeros(width, dtype=torch.float64)
        self._squares = torch.zeros(width, dtype=torch.float64)

    def observe(self, tokens: Tensor) -> None:
        """Take [n, width] into account, in float64."""
        wide = tokens.double().cpu()
        self._count += len(wide)
        self._sum = self._sum + wide.sum(0)
        self._squares = self._squares + wide.square().sum(0)

    def settle(self) -> None:
        """From now on normalise by what was observed; dimensions that never moved pass as zero."""
        if self._count < 2:
            return
        mean = self._sum / self._count
        variance = (self._squares / self._count - mean**2).clamp(min=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(variance > 0, variance.sqrt(), torch.inf))

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., width], each dimension of mean 0 and deviation 1 over what was observed."""
        return (tokens - self.mean) / self.std


class ResidualBlock(nn.Module):
    """z + σ(s ⊙ (U V z + b) + o), or z + s ⊙ σ(U V z + b) + o, with s and o the matrix's own.

    U starts at zero, so the block starts as the identity. σ is max(0, ·), whose gradient at 0 is
    taken as 1, or nothing at all in a block that may also lower its input.
    """

    def __init__(
        self, width: int, rank: int, modes: int, film: Literal["before", "after"], linear: bool
    ) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.zeros(rank, width))
        self.v = nn.Parameter(torch.zeros(width, rank))
        self.b = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(modes, width))
        self.offset = nn.Parameter(torch.zeros(modes, width))
        self.film, self.linear = film, linear

    def draw(self, generator: torch.Generator) -> None:
        """Draw V ~ N(0, 1/width)."""
        with torch.no_grad():
            self.v.normal_(0, 1 / math.sqrt(len(self.v)), generator=generator)

    def forward(self, z: Tensor, mode: int) -> Tensor:
        """[..., width] for the matrix number `mode`."""
        h = z @ self.v @ self.u + self.b
        scale, offset = self.scale[mode], self.offset[mode]
        if self.film == "before":
            return z + self._rectified(scale * h + offset)
        return z + scale * self._rectified(h) + offset

    def _rectified(self, h: Tensor) -> Tensor:
        return h if self.linear else h.clamp(min=0)


class FactorNetwork(nn.Module):
    """From (x, δ) of one token to (x̃, δ̃), for matrices of one shape (arXiv 2110.11309, eq. 2)."""

    def __init__(
        self,
        d_in: int,
        d_out: int,
        rank: int,
        modes: int,
        film: Literal["before", "after"],
        last_linear: bool,
    ) -> None:
        super().__init__()
        self.d_in = d_in
        width = d_in + d_out
        self.normalisers: list[Normaliser] = nn.ModuleList(  # type: ignore[assignment]
            Normaliser(width) for _ in range(modes)
        )
        self.blocks: list[ResidualBlock] = nn.ModuleList(  # type: ignore[assignment]
            ResidualBlock(width, min(rank, width), modes, film, last_linear and k == BLOCKS - 1)
            for k in range(BLOCKS)
        )

    def draw(self, generator: torch.Generator) -> None:
        """Draw the starting weights."""
        for block in self.blocks:
            block.draw(generator)

    def forward(self, x: Tensor, delta: Tensor, mode: int) -> tuple[Tensor, Tensor]:
        """x̃ [..., d_in] and δ̃ [..., d_out] for the matrix number `mode`."""
        z = self.normalisers[mode](torch.cat([x, delta], -1))
        for block in self.blocks:
            z = block(z, mode)
        return z[..., : self.d_in], z[..., self.d_in :]


class FactorNetworks(nn.Module):
    """A `FactorNetwork` for each shape (d_out, d_in), over matrices by name."""

    def __init__(
        self, shapes: Mapping[str, tuple[int, int]], rank: int, film: Literal["before", "after"]
    ) -> None:
        super().__init__()
        by_shape: dict[tuple[int, int], list[str]] = {}
        for name, shape in shapes.items():
            by_shape.setdefault(shape, []).append(name)
        self.networks: list[FactorNetwork] = nn.ModuleList(  # type: ignore[assignment]
            FactorNetwork(d_in, d_out, rank, len(names), film, last_linear=True)
            for (d_out, d_in), names in by_shape.items()
        )
        self._homes = {
            name: (index, mode)
            for index, names in enumerate(by_shape.values())
            for mode, name in enumerate(names)
        }

    def draw(self, generator: torch.Generator) -> None:
        """Draw the starting weights."""
        for network in self.networks:
            network.draw(generator)

    def observe(self, factors: FactorsByModule) -> None:
        """Gradient factors of training edits, for the normalisers."""
        for name, seen in factors.items():
            index, mode = self._homes[name]
            both = torch.cat([seen.x, seen.delta], -1)
            self.networks[index].normalisers[mode].observe(both[seen.live])

    def settle(self) -> None:
        """Normalise by what was observed."""
        for network in self.networks:
            for normaliser in network.normalisers:
                normaliser.settle()

    def forward(self, name: str, seen: Factors) -> tuple[Tensor, Tensor]:
        """x̃ [E, T, d_in] and δ̃ [E, T, d_out] of one matrix, zero where no token counts."""
        index, mode = self._homes[name]
        x, delta = self.networks[index](seen.x, seen.delta, mode)
        live = seen.live[..., None]
        return x * live, delta * live


class MappingNetwork(Network):
    """A network that maps the factors of each token, with a learnt rate for each matrix."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        rank: int,
        rate: float,
        film: Literal["before", "after"],
    ) -> None:
        super().__init__()
        self.mapping = FactorNetworks(shapes, rank, film)
        self.log_rate = nn.Parameter(torch.full((len(shapes),), rate).log())

    def draw(self, generator: torch.Generator) -> None:
        """Draw the starting weights."""
        self.mapping.draw(generator)

    def observe(self, factors: FactorsByModule) -> None:
        """Gradient factors of training edits, for the normalisers."""
        self.mapping.observe(factors)

    def settle(self) -> None:
        """Normalise by what was observed."""
        self.mapping.settle()
