"""The weight changes that a network proposes, for many groups at once and with gradients."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from editsweep.model.hooks import Addend, adding
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Change, Dense, LowRank, Patch


@dataclass(frozen=True)
class Proposal:
    """For group g, module output y += (x a[g]ᵀ) b[g] + x sharedᵀ.

    a [groups, rank, d_in] and b [groups, rank, d_out]; `shared` [d_out, d_in] is the same for all
    groups, or None.
    """

    a: Tensor
    b: Tensor
    shared: Tensor | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """What gradients flow into."""
        return [self.a, self.b, *([] if self.shared is None else [self.shared])]

    def leaf(self) -> "Proposal":
        """The same numbers, cut off from what they were computed from, wanting gradients."""
        shared = None if self.shared is None else _leaf(self.shared)
        return Proposal(_leaf(self.a), _leaf(self.b), shared)

    def more(self, a: Tensor, b: Tensor) -> "Proposal":
        """With further factors added."""
        return replace(self, a=torch.cat([self.a, a], 1), b=torch.cat([self.b, b], 1))

    def change(self, group: int) -> Change:
        """The change of one group, as small as it can be stored; directions of zeros are left out."""
        used = (self.a[group] != 0).any(-1) & (self.b[group] != 0).any(-1)
        low = LowRank(self.a[group][used].detach().clone(), self.b[group][used].detach().clone())
        if self.shared is not None:
            return Dense(self.shared.detach() + low.delta())
        return Dense(low.delta()) if low.rank > min(low.a.shape[1], low.b.shape[1]) else low


Proposals = Mapping[str, Proposal]
"""By the name of the linear module."""


def patch_of(proposals: Proposals, group: int) -> Patch:
    """The patch of one group."""
    return Patch({name: proposal.change(group) for name, proposal in proposals.items()})


@contextmanager
def proposed(model: LanguageModel, proposals: Proposals, group: Tensor) -> Iterator[None]:
    """Within the block, row i is answered by the model changed for group[i]; gradients flow.

    `group` [rows] holds the number of each row's group.
    """
    with adding(model, {name: _addend(p, group) for name, p in proposals.items()}):
        yield


def _addend(proposal: Proposal, group: Tensor) -> Addend:
    def add(x: Tensor) -> Tensor:
        wide = x.to(proposal.a.dtype)
        y = (wide @ proposal.a[group].mT) @ proposal.b[group]
        if proposal.shared is not None:
            y = y + wide @ proposal.shared.T
        return y.to(x.dtype)

    return add


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()
