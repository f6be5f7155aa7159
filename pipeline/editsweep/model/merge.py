"""A patch written into weights and taken out again; a patch as a file.

The engine itself answers with patches and never writes: this is for serving an edited model, and
for many edits in one model, where one large change is cheaper inside the weights.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
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


def save_patch(patch: Patch, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write `patch` as one safetensors file; `about` says what it is, as plain JSON."""
    tensors = {
        f"{name}.{part}": tensor.detach().cpu().contiguous()
        for name, change in patch.adds.items()
        for part, tensor in change.tensors.items()
    }
    meta = {"format": FORMAT, "prefix": patch.prefix, "modules": json.dumps(sorted(patch.adds))}
    meta |= {} if about is None else {"about": json.dumps(about, ensure_ascii=False)}
    save_file(tensors, path, metadata=meta)


def load_patch(path: Path, device: str = "cpu") -> Patch:
    """The patch that `save_patch` wrote.

    Raises:
        StoreError: the file is not one of ours.
    """
    with _opened(path, device) as (file, meta):
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


def read_about(path: Path) -> dict[str, Any]:
    """What `save_patch` was told about the patch; empty if nothing.

    Raises:
        StoreError: the file is not one of ours.
    """
    with _opened(path, "cpu") as (_, meta):
        about: dict[str, Any] = json.loads(meta.get("about", "{}"))
        return about


@contextmanager
def _opened(path: Path, device: str) -> Iterator[tuple[Any, dict[str, str]]]:
    """A patch file and its metadata."""
    try:
        opened: Any = safe_open(path, framework="pt", device=device)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read as a patch file: {error}") from error
    with opened as file:
        meta = file.metadata() or {}
        if meta.get("format") != FORMAT:
            raise StoreError(
                f"{path} is not a patch file ({FORMAT}); it says {meta.get('format')!r}"
            )
        yield file, meta
