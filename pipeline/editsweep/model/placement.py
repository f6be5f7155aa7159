"""A model that does not fit one GPU: its blocks over several, in order; all else on the first.

A pass then crosses from one device to the next once. Embeddings, last norm and head share the first
device, so a head tied to the embeddings needs no copy, and final hidden states, log-probabilities,
patches and whatever an editor computes are where token ids are: on `LanguageModel.device`. What is
hooked into a block is brought there and back (`model/hooks.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from editsweep.errors import ConfigError
from editsweep.model.hooks import moved, only_blocks
from editsweep.model.language_model import LanguageModel


def device_map(model: LanguageModel, devices: Sequence[torch.device]) -> dict[str, torch.device]:
    """The device of each block by its name, neighbours together, about as many bytes on each.

    What is no block counts for the first device, which may have no block at all; each other has one.

    Raises:
        ConfigError: there are more devices than blocks.
    """
    sizes = [_bytes(block) for block in model.blocks]
    if len(devices) > len(sizes):
        raise ConfigError(
            f"{model.name} has {len(sizes)} blocks, too few for {len(devices)} devices: choose "
            f"{len(sizes)} or fewer"
        )
    places = cuts(sizes, _bytes(model.module) - sum(sizes), len(devices))
    return {f"{model.family.blocks}.{n}": devices[place] for n, place in enumerate(places)}


def cuts(sizes: Sequence[int], first: int, count: int) -> list[int]:
    """For each of the blocks of `sizes` bytes, in order, on which of `count` devices it lies.

    The first device holds `first` bytes before any block. There are at least `count` blocks.
    """
    places: list[int] = []
    held, left = first, first + sum(sizes)
    for device in range(count):
        share = left / (count - device)
        while len(places) < len(sizes):
            size, others = sizes[len(places)], count - device - 1
            needed = device > 0 and device not in places
            full = held + size / 2 > share or len(sizes) - len(places) <= others
            if others and full and not needed:
                break
            places.append(device)
            held += size
        left, held = left - held, 0
    return places


def spread(model: LanguageModel, devices: Sequence[torch.device]) -> None:
    """Move the model onto `devices` as `device_map` says, for good; no device ever holds it whole.

    Raises:
        ConfigError: there are more devices than blocks.
    """
    for name, device in device_map(model, devices).items():
        block = model.module.get_submodule(name).to(device)
        block.register_forward_pre_hook(_bringing(device), with_kwargs=True)
    with only_blocks(model, stop=0):
        model.module.to(devices[0])
    norm = model.module.get_submodule(model.family.final_norm)
    norm.register_forward_pre_hook(_bringing(devices[0]), with_kwargs=True)


def _bringing(device: torch.device) -> Callable[..., Any]:
    """A hook that brings all tensors among a module's arguments to `device`."""
    return lambda _module, args, kwargs: (moved(args, device), moved(kwargs, device))


def _bytes(module: nn.Module) -> int:
    """What parameters and buffers hold; those that are tied count once."""
    return sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
