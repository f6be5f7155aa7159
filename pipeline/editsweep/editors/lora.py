"""LoRA: a low-rank adapter for an edit, trained on its target's tokens (arXiv 2106.09685).

h = W₀ x + (α/r) B A x (eq. 3), A drawn and B zero, on the projections of queries and values of every
block, as the field edits with it: Adam at 5e-3, 70 steps without an early stop, cross entropy of the
target's tokens. Adapters of many edits are rows of one batch. There is no dropout.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from editsweep.editors.adapters import AdapterSpec
from editsweep.editors.tuned import Parameters
from editsweep.errors import ConfigError


@dataclass(frozen=True)
class LoraSpec(AdapterSpec):
    """Hyperparameters; `rank` is r of every module, in the last `blocks` blocks, None all of them."""

    name: ClassVar[str] = "lora"

    rank: int = 8

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        super().__post_init__()
        if self.rank < 1:
            raise ConfigError("lora: rank must be positive")

    def numbers(self, shape: Sequence[int]) -> int:
        """Both factors."""
        return self.rank * sum(shape)

    def drawn(self, shape: Sequence[int], generator: torch.Generator) -> Mapping[str, Tensor]:
        """A as `a` [rank, d_in], uniform within ±1/√d_in, and Bᵀ as `b` [rank, d_out], zero."""
        d_out, d_in = shape
        bound = 1 / math.sqrt(d_in)
        a = torch.empty(self.rank, d_in).uniform_(-bound, bound, generator=generator)
        return {"a": a, "b": torch.zeros(self.rank, d_out)}

    def factors(self, parameters: Parameters, module: str) -> tuple[Tensor, Tensor]:
        """A and (α/r) Bᵀ."""
        scale = self.alpha / self.rank
        return parameters[f"{module}.a"], parameters[f"{module}.b"] * scale
