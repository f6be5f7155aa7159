"""Assets on disk: made once by content, whole or not at all, found again by every worker.

A worker whose cache is not the driver's sends what it has made as files, and gets as files what
others have made.

<cache>/assets/<key>/tensors.safetensors   meta.json (with the sha256 of the tensors, and who made it)
<cache>/making/<key>/                      while it is made: a lock, and what its maker keeps there
"""

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file

from editsweep.core.types import Corpus
from editsweep.editors.base import Editor, EditorSpec
from editsweep.errors import DataError
from editsweep.model.asset import Asset
from editsweep.model.cache import file_sha256, publish
from editsweep.model.language_model import LanguageModel
from editsweep.run.plan import Recipe
from editsweep.store.lock import in_turn

LOCK = "lock"
TENSORS, META = "tensors.safetensors", "meta.json"

Files = Mapping[str, pa.Buffer]
"""The files of an asset by their names."""

Parcel = Callable[[], Files]
"""Gives an asset's files when they are wanted."""


def asset_folder(cache: Path, key: str) -> Path:
    """Where the asset `key` lies once it is made."""
    return cache / "assets" / key


def obtain(
    cache: Path, recipe: Recipe, model: LanguageModel, parcel: Parcel | None = None
) -> Asset:
    """The asset from this machine's cache; if it is not there yet, out of `parcel`, or made.

    Raises:
        DataError: the source has other records than when the sweep was planned.
    """
    kept = find_asset(cache, recipe.key)
    if kept is not None:
        return kept
    with making(cache, recipe.key) as work:
        kept = find_asset(cache, recipe.key)
        if kept is None and parcel is not None:
            keep_files(cache, recipe.key, parcel())
            kept = find_asset(cache, recipe.key)
        if kept is None:
            kept = make_asset(recipe, model, work)
            keep_asset(cache, recipe.key, kept)
    return kept


def files_of(cache: Path, key: str) -> Files | None:
    """The files of an asset, mapped into memory; None when it is not there or damaged."""
    if find_asset(cache, key) is None:
        return None
    folder = asset_folder(cache, key)
    return {name: pa.memory_map(str(folder / name)).read_buffer() for name in (TENSORS, META)}


def keep_files(cache: Path, key: str, files: Files) -> Path:
    """Keep an asset that came as files, unless it is there already."""

    def write(folder: Path) -> None:
        folder.mkdir()
        for name in (TENSORS, META):
            (folder / name).write_bytes(files[name])

    return publish(write, asset_folder(cache, key))


def built(
    spec: EditorSpec, recipes: Mapping[str, Recipe], model: LanguageModel, cache: Path
) -> Editor:
    """The editor of `spec`, with the assets that it requires from this machine's cache.

    Raises:
        DataError: a source has other records than when the sweep was planned.
    """
    return spec.build(model, {name: obtain(cache, r, model) for name, r in recipes.items()})


def make_asset(recipe: Recipe, model: LanguageModel, work: Path | None = None) -> Asset:
    """Make the asset, reading its source here; what can be gone on with lies in `work`.

    Raises:
        DataError: the source has other records than when the sweep was planned.
    """
    return recipe.requirement.make(model, corpus_of(recipe), work)


def making_folder(cache: Path, key: str) -> Path:
    """Where the maker of the asset `key` keeps what it needs to go on after a crash."""
    return cache / "making" / key


@contextmanager
def making(
    cache: Path, key: str, waits_for: Callable[[str], None] = lambda _: None
) -> Iterator[Path]:
    """The folder to make the asset `key` in, for one process at a time.

    Whoever comes while another process makes it waits, and `waits_for` is told for whom; look
    again then whether it is there. The folder goes once the asset is kept, and stays after a crash.
    """
    folder = making_folder(cache, key)
    folder.mkdir(parents=True, exist_ok=True)
    with in_turn(folder / LOCK, waits_for):
        try:
            yield folder
        finally:
            if asset_folder(cache, key).exists() or {p.name for p in folder.glob("*")} <= {LOCK}:
                for made in (folder, *folder.parent.glob(f"{key}.*")):
                    shutil.rmtree(made, ignore_errors=True)


def keep_asset(cache: Path, key: str, asset: Asset) -> Path:
    """Write the asset under its key, unless it is there already."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in asset.tensors.items()}

    def write(folder: Path) -> None:
        folder.mkdir()
        path = folder / TENSORS
        save_file(tensors or {"": torch.empty(0)}, path)
        maker = f"{platform.node()}:{os.getpid()}"
        meta = {"sha256": file_sha256(path), "maker": maker, "meta": dict(asset.meta)}
        (folder / META).write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")

    return publish(write, asset_folder(cache, key))


def find_asset(cache: Path, key: str) -> Asset | None:
    """The asset `key`, or None when it is not there or damaged; a damaged one is removed."""
    folder = asset_folder(cache, key)
    path = folder / TENSORS
    try:
        kept: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        if file_sha256(path) != kept["sha256"]:
            raise ValueError("other content than was written")
        tensors = {name: t for name, t in load_file(path).items() if name}
        return Asset(tensors, kept["meta"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None


def corpus_of(recipe: Recipe) -> Corpus:
    """What the asset is made from, read here.

    Raises:
        DataError: the source has other records than when the sweep was planned.
    """
    if recipe.source is None:
        return Corpus()
    corpus, digest = recipe.source.corpus()
    if digest != recipe.digest:
        raise DataError(
            f"{recipe.source.name}:{recipe.source.split} holds other records here than where the "
            "sweep was planned: install the same data on every machine"
        )
    return corpus
