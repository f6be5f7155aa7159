"""The state of a training on disk: one safetensors file, replaced whole."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editsweep.learn.network import Network

NAME = "state.safetensors"


@dataclass
class State:
    """Everything that the next step depends on, and what is known so far.

    `step` steps are done; `best_score` at `best_step` is the lowest validation score, `stale` how
    many validations have passed since.
    """

    step: int = 0
    multiplier: float = 0.0
    margin: float = 0.0
    best_score: float = float("inf")
    best_step: int = 0
    stale: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)


def save(
    folder: Path, state: State, network: Network, adam: torch.optim.Adam, best: Mapping[str, Tensor]
) -> None:
    """Replace the checkpoint in `folder`."""
    tensors = {f"network.{name}": t for name, t in network.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in best.items()}
    for name, parameter in network.named_parameters():
        moments = adam.state.get(parameter, {})
        tensors |= {f"adam.{key}.{name}": t for key, t in moments.items()}
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{NAME}.new"
    held = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    save_file(held, fresh, metadata={"state": json.dumps(asdict(state))})
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    fresh.replace(folder / NAME)


def restore(
    folder: Path, network: Network, adam: torch.optim.Adam
) -> tuple[State, dict[str, Tensor]] | None:
    """Load the checkpoint in `folder` into `network` and `adam`; state and best weights.

    None when there is no checkpoint, or none that can be read.
    """
    try:
        with safe_open(folder / NAME, "pt") as file:
            kept: dict[str, Any] = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return None
    parts = {
        kind: {n.removeprefix(f"{kind}."): t for n, t in tensors.items() if n.startswith(kind)}
        for kind in ("network", "best", "adam")
    }
    network.load_state_dict(parts["network"])
    for name, parameter in network.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if (moment := parts["adam"].get(f"{key}.{name}")) is not None:
                device = "cpu" if key == "step" else parameter.device
                adam.state[parameter][key] = moment.to(device)
    return State(**kept), parts["best"]


def steps_done(folder: Path) -> int:
    """How many steps the checkpoint in `folder` stands after; 0 when there is none."""
    try:
        with safe_open(folder / NAME, "pt") as file:
            return int(json.loads(file.metadata()["state"])["step"])
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return 0
