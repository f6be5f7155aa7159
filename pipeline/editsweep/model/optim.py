"""Adam for many independent parameters at once, one a row (arXiv 1412.6980, algorithm 1).

Adam works entry by entry, so rows do not feel each other, and a finished row can leave the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class RowAdam:
    """State for a parameter [rows, ...]; every row has taken the same number of steps."""

    rate: float
    first: Tensor
    second: Tensor
    steps: int = 0

    @classmethod
    def of(cls, parameter: Tensor, rate: float) -> "RowAdam":
        """Fresh state; `rate` is the learning rate."""
        return cls(rate, torch.zeros_like(parameter), torch.zeros_like(parameter))

    @torch.no_grad()
    def step(self, parameter: Tensor, gradient: Tensor) -> None:
        """One step, in place; both tensors [rows, ...]."""
        self.steps += 1
        self.first.lerp_(gradient, 1 - BETA1)
        self.second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        scale = (self.second / (1 - BETA2**self.steps)).sqrt_().add_(EPSILON)
        parameter.addcdiv_(self.first, scale, value=-self.rate / (1 - BETA1**self.steps))

    def select(self, rows: Tensor) -> "RowAdam":
        """The state of some rows."""
        return RowAdam(self.rate, self.first[rows], self.second[rows], self.steps)
