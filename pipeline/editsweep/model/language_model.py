"""A loaded model with what the engine needs to know about it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from editsweep.errors import ConfigError
from editsweep.model.families import Family


@dataclass(frozen=True)
class LanguageModel:
    """One loaded causal language model; its weights are never written outside `merge.merged`.

    `revision` identifies the weights by content, `token_budget` is the number of tokens that one
    forward pass may hold.
    """

    name: str
    revision: str
    module: Any
    tokenizer: Any
    family: Family
    token_budget: int = 2048

    @property
    def id(self) -> str:
        """Name and revision, for cache keys and cell ids."""
        return f"{self.name}@{self.revision}"

    @property
    def training_budget(self) -> int:
        """Tokens that one pass may hold when gradients keep every activation."""
        return self.token_budget // 2

    @property
    def device(self) -> torch.device:
        """Where the embeddings lie, and all tensors that come out of the engine and go in."""
        device: torch.device = self.module.get_input_embeddings().weight.device
        return device

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks, first to last."""
        blocks = self.module.get_submodule(self.family.blocks)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def mlp_out(self, layer: int) -> str:
        """Name of the MLP's output projection of one block, e.g. `model.layers.5.mlp.down_proj`."""
        return f"{self.family.blocks}.{layer}.{self.family.mlp_out}"

    def attention_out(self, layer: int) -> str:
        """Name of the attention's output projection of one block."""
        return f"{self.family.blocks}.{layer}.{self.family.attention_out}"

    def attention_in(self, layer: int) -> tuple[str, ...]:
        """Names of one block's projections of queries, keys and values, or of the one for all."""
        family = self.family
        return tuple(f"{family.blocks}.{layer}.{part}" for part in family.attention_in)

    def block_matrices(self, layer: int) -> tuple[str, ...]:
        """Names of all linear modules of one block, the attention's first."""
        attention = (*self.attention_in(layer), self.attention_out(layer))
        return (*attention, *self.mlp_matrices(layer))

    def mlp_matrices(self, layer: int) -> tuple[str, ...]:
        """Names of all linear modules of one block's MLP, the output projection last."""
        family = self.family
        parts = (*family.mlp_in, family.mlp_out)
        return tuple(f"{family.blocks}.{layer}.{part}" for part in parts)

    def checked_layer(self, layer: int | None, fraction: float) -> int:
        """`layer`, or where it is None the block at `fraction` of the depth.

        Raises:
            ConfigError: the model has no such block.
        """
        chosen = round(fraction * self.depth) if layer is None else layer
        if not 0 <= chosen < self.depth:
            raise ConfigError(f"layer {chosen}: {self.name} has blocks 0 to {self.depth - 1}")
        return chosen

    def weight(self, name: str) -> torch.Tensor:
        """The weight of a linear module as [d_out, d_in], whichever way the module stores it.

        It is the weight itself, on the device of its block, which may be another than `device`.
        """
        weight: torch.Tensor = self.module.get_submodule(name).weight
        return weight.T if self.family.transposed else weight
