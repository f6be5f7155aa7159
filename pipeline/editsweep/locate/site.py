"""Where a searched value enters the model: after the MLP, after the block, or after both its halves.

All sites take δ at the subject's last token, [rows, parts, d], and give the final hidden states.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from editsweep.errors import ConfigError
from editsweep.locate.facts import Facts
from editsweep.model.hooks import adding, reading
from editsweep.model.language_model import LanguageModel
from editsweep.model.tail import Tail


class Site(Protocol):
    """`tail_layer` is the last block whose output never changes, or is given to `final` to change."""

    @property
    def tail_layer(self) -> int:
        """The layer at which the rows' tails are to be cut."""

    def start(self, facts: Facts) -> Tensor:
        """The unedited value in the bare prompt [facts, parts, d]."""

    def final(self, tail: Tail, delta: Tensor) -> Tensor:
        """Final hidden states [rows, columns, d] with `delta` [rows, parts, d] added."""


@dataclass(frozen=True)
class MlpOut:
    """ROME: δ is added to the MLP's output projection of block `layer`."""

    layer: int

    @property
    def tail_layer(self) -> int:
        """The block itself."""
        return self.layer

    def start(self, facts: Facts) -> Tensor:
        """The projection's output."""
        return facts.at_subject(facts.told.value)[:, :1].float()

    def final(self, tail: Tail, delta: Tensor) -> Tensor:
        """One part."""
        return tail.run(_in_first_column(delta[:, 0], tail))


@dataclass(frozen=True)
class BlockOut:
    """MEMIT: δ is added to what block `layer` hands on, the residual stream."""

    layer: int

    @property
    def tail_layer(self) -> int:
        """The block itself."""
        return self.layer

    def start(self, facts: Facts) -> Tensor:
        """The residual stream."""
        return facts.at_subject(facts.told.output)[:, :1].float()

    def final(self, tail: Tail, delta: Tensor) -> Tensor:
        """One part."""
        return tail.run(_in_first_column(delta[:, 0], tail), whole_block=True)


@dataclass(frozen=True)
class Halves:
    """PMET: one δ for the attention's and one for the MLP's output projection of block `layer`."""

    layer: int

    def __post_init__(self) -> None:
        """Refuse what cannot be cut."""
        if self.layer < 1:
            raise ConfigError("pmet: the last of `layers` must be 1 or higher")

    @property
    def tail_layer(self) -> int:
        """The block before, since this one must run again."""
        return self.layer - 1

    @torch.no_grad()
    def start(self, facts: Facts) -> Tensor:
        """Both projections' outputs, attention first."""
        tail, seen = facts.told, list[Tensor]()
        attention, mlp = self._names(tail.model)
        with (
            reading(tail.model, attention, lambda _, y: seen.append(y)),
            reading(tail.model, mlp, lambda _, y: seen.append(y)),
        ):
            tail.run(torch.zeros_like(tail.output))
        return torch.stack([facts.at_subject(y)[:, 0] for y in seen], 1).float()

    def final(self, tail: Tail, delta: Tensor) -> Tensor:
        """Two parts, as `start` has them."""
        attention, mlp = (_in_first_column(part, tail) for part in delta.unbind(1))
        names = self._names(tail.model)
        dtype = tail.output.dtype
        addends = {names[0]: lambda _: attention.to(dtype), names[1]: lambda _: mlp.to(dtype)}
        with adding(tail.model, addends):
            return tail.run(torch.zeros_like(tail.output))

    def _names(self, model: LanguageModel) -> tuple[str, str]:
        return model.attention_out(self.layer), model.mlp_out(self.layer)


def _in_first_column(delta: Tensor, tail: Tail) -> Tensor:
    """[rows, d] as [rows, columns, d], zero but in column 0."""
    return F.pad(delta[:, None], (0, 0, 0, tail.ids.shape[1] - 1))
