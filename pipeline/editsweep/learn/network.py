"""What the trainer and the sweep ask of a network that edits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from editsweep.errors import ConfigError
from editsweep.learn.changes import Proposals
from editsweep.learn.signal import FactorsByModule, Signal
from editsweep.model.language_model import LanguageModel


class Network(nn.Module):
    """A network that answers the signal of edits with weight changes, differentiably."""

    def draw(self, generator: torch.Generator) -> None:
        """Draw the starting weights."""

    def observe(self, factors: FactorsByModule) -> None:
        """See the plain gradients of training edits, before the first step."""

    def settle(self) -> None:
        """All of them have been seen."""

    def propose(self, signal: Signal) -> Proposals:
        """The change of every module for every group; a group's depends on its own edits only."""
        raise NotImplementedError


@runtime_checkable
class Method(Protocol):
    """A frozen dataclass of a network's hyperparameters; `method` is the name of its editor."""

    @property
    def method(self) -> str:
        """Goes into the identity of the trained network."""

    @property
    def blocks(self) -> int:
        """How many of the last blocks are edited."""

    def network(self, shapes: Mapping[str, tuple[int, int]], d_model: int) -> Network:
        """An untrained network for modules of shape (d_out, d_in), by name; nothing drawn yet."""


@dataclass(frozen=True)
class Place:
    """Where a method edits: the modules, their shapes (d_out, d_in), and the first edited block."""

    first: int
    shapes: Mapping[str, tuple[int, int]]

    @property
    def modules(self) -> tuple[str, ...]:
        """Their names, in the order of the model."""
        return tuple(self.shapes)


def place_of(method: Method, model: LanguageModel) -> Place:
    """All linear modules of the MLPs of the last `blocks` blocks.

    Raises:
        ConfigError: the model has fewer blocks.
    """
    if not 1 <= method.blocks <= model.depth:
        raise ConfigError(
            f"{method.method}: blocks {method.blocks}: {model.name} has 1 to {model.depth}"
        )
    first = model.depth - method.blocks
    names = [name for layer in range(first, model.depth) for name in model.mlp_matrices(layer)]
    shapes = {name: (model.weight(name).shape[0], model.weight(name).shape[1]) for name in names}
    return Place(first, shapes)


def make_network(method: Method, model: LanguageModel, seed: int) -> Network:
    """An untrained network for `model`; its starting weights depend on `seed` alone."""
    embeddings = model.module.get_input_embeddings().weight
    with torch.random.fork_rng(devices=[]):  # layers of torch draw when they are made
        network = method.network(place_of(method, model).shapes, embeddings.shape[1])
    network.draw(torch.Generator().manual_seed(seed))
    return network.to(model.device)
