"""Several workers as one trainer: each takes its share of a step's groups, sums are shared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """Worker number `rank` of `size`; `total` sums a flat tensor over all of them, in place."""

    rank: int
    size: int
    total: Callable[[Tensor], None]

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This worker's part of what all workers have."""
        return items[self.rank :: self.size]


ALONE = Team(0, 1, lambda _: None)
