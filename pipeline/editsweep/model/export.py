"""A patch in the forms that other programs load: a PEFT adapter, a checkpoint, our own file.

Nothing here writes the model: a merged weight is a new tensor beside the old one. Each form is a
function `(model, patch, folder, about)` that fills a folder which is not there yet.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from editsweep.errors import ConfigError
from editsweep.model.about import About
from editsweep.model.card import card
from editsweep.model.language_model import LanguageModel
from editsweep.model.load import quiet
from editsweep.model.merge import save_patch
from editsweep.model.patch import Change, LowRank, Patch
from editsweep.model.spectrum import spectrum

PATCH_FILE = "patch.safetensors"

# Singular values below this share of the largest are rounding errors of float32.
_NUMERICAL_ZERO = 1e-6


def as_lora(model: LanguageModel, patch: Patch, folder: Path, about: About) -> None:
    """A PEFT adapter: `adapter_config.json` and `adapter_model.safetensors`.

    The factors are those of the patch, lora_alpha is the rank (so PEFT scales by 1), and modules of
    another rank stand in `rank_pattern` and `alpha_pattern`. A whole matrix becomes two factors where
    its numerical rank is so small that they hold fewer numbers.

    Raises:
        ConfigError: the patch has a prefix, touches nothing, or a matrix of it has no small rank.
    """
    _need_weights(patch, "a LoRA adapter")
    adds = {name: _factored(name, change) for name, change in sorted(patch.adds.items())}
    ranks = {name: change.rank for name, change in adds.items()}
    r = max(ranks.values())
    others = {name: rank for name, rank in ranks.items() if rank != r}
    entry = about.model
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": entry.name
        if entry.source in ("wheel", "random")
        else entry.location,
        "revision": entry.revision if entry.source == "hub" else None,
        "inference_mode": True,
        "r": r,
        "lora_alpha": r,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": model.family.transposed,
        "target_modules": list(adds),
        "rank_pattern": others,
        "alpha_pattern": others,
    }
    tensors: dict[str, Tensor] = {}
    for name, change in adds.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = _plain(change.a)
        tensors[f"base_model.model.{name}.lora_B.weight"] = _plain(change.b.T)
    folder.mkdir()
    text = json.dumps(config, indent=2)
    (folder / "adapter_config.json").write_text(f"{text}\n", encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def as_checkpoint(model: LanguageModel, patch: Patch, folder: Path, _about: About) -> None:
    """A folder that transformers loads: weights with the patch added, configuration, tokenizer.

    The weights have the precision in which the model was loaded. Only the touched matrices are
    copied; the model itself is not written.

    Raises:
        ConfigError: the patch has a prefix, touches nothing, or touches a weight that is tied to
            another.
    """
    _need_weights(patch, "a checkpoint")
    state = dict(model.module.state_dict())
    for name, change in patch.adds.items():
        weight = state[f"{name}.weight"]
        tied = [n for n, t in state.items() if t.data_ptr() == weight.data_ptr()]
        if len(tied) > 1:
            raise ConfigError(
                f"{' and '.join(tied)} are one tensor, and the patch changes the use of one of them: "
                "export it as `lora` or `patch`"
            )
        delta = change.delta().to(weight)
        state[f"{name}.weight"] = weight + (delta.T if model.family.transposed else delta)
    folder.mkdir()
    with quiet():
        model.module.save_pretrained(folder, state_dict=state)
        model.tokenizer.save_pretrained(folder)


def as_patch(_model: LanguageModel, patch: Patch, folder: Path, about: About) -> None:
    """Our own file, which `model.merge.load_patch` reads; holds any patch, prefix and all."""
    folder.mkdir()
    save_patch(patch, folder / PATCH_FILE, about.to_json())


@dataclass(frozen=True)
class Form:
    """One form: what writes it, which library loads it, and the lines of Python that do."""

    write: Callable[[LanguageModel, Patch, Path, About], None]
    library: str
    code: Callable[[About, str], tuple[str, ...]]


def write(
    form: str, model: LanguageModel, patch: Patch, folder: Path, about: About, called: str
) -> None:
    """Fill `folder`, which is not there yet, with a form of `FORMS` and a model card.

    Args:
        form: its name.
        model: the model that the patch belongs to; it is not written.
        patch: the edit.
        folder: where to.
        about: what the patch is.
        called: how the card's lines of Python name the folder.

    Raises:
        ConfigError: the form cannot hold the patch; `folder` is not made then.
    """
    chosen = FORMS[form]
    chosen.write(model, patch, folder, about)
    text = card(about, chosen.library, chosen.code(about, called))
    (folder / "README.md").write_text(text, encoding="utf-8")


def truncated(patch: Patch, rank: int) -> tuple[Patch, float]:
    """The nearest patch whose changes have at most `rank`, and how far away it is.

    Returns:
        The patch, and the Frobenius norm of what was left out relative to that of the whole.
    """
    adds: dict[str, Change] = {}
    lost = 0.0
    for name, change in patch.adds.items():
        if isinstance(change, LowRank) and change.rank <= rank:
            adds[name] = change
            continue
        u, s, v = spectrum(change)
        adds[name] = _two_factors(change, u[:, :rank], s[:rank], v[:rank])
        lost += float(s[rank:].square().sum())
    return Patch(adds, patch.prefix), lost**0.5 / patch.norm if lost else 0.0


def _need_weights(patch: Patch, what: str) -> None:
    if patch.prefix:
        raise ConfigError(
            f"this edit says a text first ({patch.prefix[:40]!r} ...), which {what} cannot hold: "
            "export it as `patch`"
        )
    if not patch.adds:
        raise ConfigError(f"this edit changes no weight, so there is nothing for {what} to hold")


def _factored(name: str, change: Change) -> LowRank:
    """The change as two factors.

    Raises:
        ConfigError: they would hold more numbers than the matrix.
    """
    if isinstance(change, LowRank):
        return change
    d_out, d_in = change.delta().shape
    u, s, v = spectrum(change)
    rank = max(1, int((s > _NUMERICAL_ZERO * s[0]).sum()))
    if rank * (d_out + d_in) > d_out * d_in:
        raise ConfigError(
            f"{name}: this change is a whole matrix of rank {rank} ({d_out} × {d_in}), which a LoRA "
            "adapter does not make smaller: export it as `checkpoint` or `patch`, or cut it to rank "
            "R with --rank R (the error that this makes is printed)"
        )
    return _two_factors(change, u[:, :rank], s[:rank], v[:rank])


def _two_factors(change: Change, u: Tensor, s: Tensor, v: Tensor) -> LowRank:
    """U diag(s) V as factors of equal size, in the precision of `change`."""
    given, root = next(iter(change.tensors.values())), s.sqrt()
    return LowRank((root[:, None] * v).to(given), (u * root).T.to(given))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32).contiguous()


def _lora_code(about: About, folder: str) -> tuple[str, ...]:
    return (
        "from peft import PeftModel",
        "from editsweep.model.load import load",
        f"model = PeftModel.from_pretrained({_loaded(about)}.module, {folder!r})",
    )


def _checkpoint_code(_about: About, folder: str) -> tuple[str, ...]:
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        f"model = AutoModelForCausalLM.from_pretrained({folder!r})",
        f"tokenizer = AutoTokenizer.from_pretrained({folder!r})",
    )


def _patch_code(about: About, folder: str) -> tuple[str, ...]:
    return (
        "from editsweep.model.load import load",
        "from editsweep.model.merge import load_patch",
        f"model, patch = {_loaded(about)}, load_patch({f'{folder}/{PATCH_FILE}'!r})",
    )


def _loaded(about: About) -> str:
    return f"load({about.base!r}, dtype={about.model.dtype!r})"


FORMS: Mapping[str, Form] = {
    "lora": Form(as_lora, "peft", _lora_code),
    "checkpoint": Form(as_checkpoint, "transformers", _checkpoint_code),
    "patch": Form(as_patch, "editsweep", _patch_code),
}
