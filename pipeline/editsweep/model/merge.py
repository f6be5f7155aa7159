"""A patch written into weights and taken out again; a patch as a file.

The engine itself answers with patches and never writes: this is for serving an edited model, and
for many edits in one model, where one large change is cheaper inside the weights.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from editsweep.core.ids import canonical_json
from editsweep.errors import StoreError
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Change, Dense, LowRank, Patch

FORMAT = "editsweep-patch-2"
_KINDS: dict[tuple[str, ...], type[LowRank] | type[Dense]] = {("a", "b"): LowRank, ("d",): Dense}
_PATCH, _BESIDE = "patch", "beside"


@dataclass(frozen=True, eq=False)
class Packed:
    """A patch with the tensors and the plain JSON that lie beside it in its file."""

    patch: Patch
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


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


def pack(packed: Packed) -> bytes:
    """One safetensors file; the same content gives the same bytes."""
    named = {
        f"{_PATCH}.{name}.{part}": tensor
        for name, change in packed.patch.adds.items()
        for part, tensor in change.tensors.items()
    }
    named |= {f"{_BESIDE}.{name}": tensor for name, tensor in packed.beside.items()}
    # safetensors refuses tensors that share memory, and views of one matrix do.
    tensors = {name: t.detach().cpu().clone().contiguous() for name, t in named.items()}
    meta = {
        "format": FORMAT,
        "prefix": packed.patch.prefix,
        "modules": list(packed.patch.adds),
        "notes": dict(packed.notes),
    }
    # One key, because safetensors writes several in no fixed order.
    return save(tensors, metadata={"editsweep": canonical_json(meta)})


def unpack(data: bytes, where: str = "the bytes", device: str | torch.device = "cpu") -> Packed:
    """What `pack` wrote; `where` leads the message.

    Raises:
        StoreError: it is not one of ours, or cut.
    """
    try:
        tensors = {name: tensor.to(device) for name, tensor in load(data).items()}
        end = 8 + int.from_bytes(data[:8], "little")
        text = json.loads(data[8:end]).get("__metadata__", {}).get("editsweep", "{}")
    except (SafetensorError, ValueError) as error:
        raise StoreError(f"{where} cannot be read as a patch file: {error}") from None
    meta = json.loads(text)
    if meta.get("format") != FORMAT:
        raise StoreError(f"{where} is not a patch file ({FORMAT}); it says {meta.get('format')!r}")
    adds: dict[str, Change] = {}
    for name in meta["modules"]:
        parts = _below(tensors, f"{_PATCH}.{name}.")
        adds[name] = _KINDS[tuple(sorted(parts))](**parts)
    return Packed(Patch(adds, meta["prefix"]), _below(tensors, f"{_BESIDE}."), meta["notes"])


def save_patch(patch: Patch, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write `patch` as one safetensors file; `about` says what it is, as plain JSON."""
    path.write_bytes(pack(Packed(patch, notes={"about": about} if about else {})))


def load_patch(path: Path, device: str = "cpu") -> Patch:
    """The patch that `save_patch` wrote, or that of a sequence's file.

    Raises:
        StoreError: the file is not one of ours.
    """
    return _read(path, device).patch


def read_about(path: Path) -> dict[str, Any]:
    """What `save_patch` was told about the patch; empty if nothing.

    Raises:
        StoreError: the file is not one of ours.
    """
    about: dict[str, Any] = _read(path, "cpu").notes.get("about", {})
    return about


def _read(path: Path, device: str) -> Packed:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read as a patch file: {error}") from error
    return unpack(data, str(path), device)


def _below(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
