"""A patch written into weights and taken out again; a patch as a file.

The engine itself answers with patches and never writes: this is for serving an edited model, and
for many edits in one model, where one large change is cheaper inside the weights.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from editsweep.errors import StoreError
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Change, Dense, LowRank, Patch

FORMAT = "editsweep-patch-1"
_KINDS: dict[tuple[str, ...], type[LowRank] | type[Dense]] = {("a", "b"): LowRank, ("d",): Dense}


@contextmanager
@torch.no_grad()
def merged(model: LanguageModel, patch: Patch) -> Iterator[None]:
    """Within the block, the weights themselves hold `patch`; afterwards they are the old bits.

    The prefix of a patch is text and stays outside the weights.
    """
    saved: dict[str, Tensor] = {}
    try:
        for name, change in patch.adds.items():
            weight = model.weight(name)
            saved[name] = weight.clone()
            weight.add_(change.delta().to(weight))
        yield
    finally:
        for name, original in saved.items():
            model.weight(name).copy_(original)


def save_patch(patch: Patch, path: Path) -> None:
    """Write `patch` as one safetensors file."""
    tensors = {
        f"{name}.{part}": tensor.detach().cpu().contiguous()
        for name, change in patch.adds.items()
        for part, tensor in change.tensors.items()
    }
    meta = {"format": FORMAT, "prefix": patch.prefix, "modules": json.dumps(sorted(patch.adds))}
    save_file(tensors, path, metadata=meta)


def load_patch(path: Path, device: str = "cpu") -> Patch:
    """The patch that `save_patch` wrote.

    Raises:
        StoreError: the file is not one of ours.
    """
    with safe_open(path, framework="pt", device=device) as file:
        meta = file.metadata() or {}
        if meta.get("format") != FORMAT:
            raise StoreError(
                f"{path} is not a patch file ({FORMAT}); it says {meta.get('format')!r}"
            )
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    adds: dict[str, Change] = {}
    for name in json.loads(meta["modules"]):
        parts = {
            key.removeprefix(f"{name}."): t
            for key, t in tensors.items()
            if key.startswith(f"{name}.")
        }
        adds[name] = _KINDS[tuple(sorted(parts))](**parts)
    return Patch(adds, meta["prefix"])
