"""Whether a model's weights are the bits that were loaded."""

from collections.abc import Mapping

import torch
from torch import Tensor

from editsweep.model.language_model import LanguageModel


def checksums(model: LanguageModel) -> dict[str, int]:
    """One number for each parameter and buffer, by name: its bits as 64-bit integers, added up.

    Reads the weights once, as fast as memory gives them: 0.14 s for 538 MB on one core of a shared
    x86-64 machine, where sha256 took 1.5 s. A sum finds any single change, which is what an editor
    that writes into the model makes; it is no guard against somebody who means to hide one.
    """
    module = model.module
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: _sum(tensor) for name, tensor in tensors.items() if not tensor.is_meta}


def changed(before: Mapping[str, int], model: LanguageModel) -> list[str]:
    """Names of the weights that are not as they were when `before` was taken, sorted."""
    now = checksums(model)
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


@torch.no_grad()
def _sum(tensor: Tensor) -> int:
    bits = tensor.detach().reshape(-1).view(torch.uint8)
    if bits.storage_offset() % 8:
        bits = bits.clone()
    whole = len(bits) // 8 * 8
    return int(bits[:whole].view(torch.int64).sum()) + int(bits[whole:].sum())
