"""ENN: learn weights from which a few gradient steps edit (arXiv 2004.00345; MAML, 1703.03400)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn

from editsweep.editors.base import Asset, Editor, Requirement
from editsweep.editors.learned import LearnedEditor
from editsweep.errors import ConfigError
from editsweep.learn.changes import Proposal, Proposals
from editsweep.learn.network import Network
from editsweep.learn.signal import Signal
from editsweep.learn.trained import Trained
from editsweep.learn.training import Training
from editsweep.model.language_model import LanguageModel

# Weights want small steps of Adam; the logarithms of the rates may take larger ones.
GAIN = 10.0


@dataclass(frozen=True)
class EnnMethod:
    """`steps` of gradient descent with a learnt rate for each matrix, from learnt weights.

    `second_order` differentiates through the steps' gradients; without it they count as constant.
    """

    method: str = field(default="enn", init=False)
    blocks: int = 3
    steps: int = 1
    rate: float = 1e-2
    second_order: bool = False

    def network(self, shapes: Mapping[str, tuple[int, int]], d_model: int) -> Network:
        """The start, as a change of each matrix, and the rates."""
        return EnnNetwork(shapes, self)


@dataclass(frozen=True)
class EnnSpec:
    """Hyperparameters; `source` is what the start is learnt from, "" the dataset's train split."""

    name: ClassVar[str] = "enn"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    source: str = ""
    network: EnnMethod = field(default_factory=EnnMethod)
    training: Training = field(default_factory=lambda: Training(steps=300, rate=1e-4))

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.network.steps < 1 or self.network.rate <= 0:
            raise ConfigError("enn: network.steps and network.rate must be positive")

    def requirements(self) -> Mapping[str, Requirement]:
        """The trained start."""
        return {"network": Trained(self.source, self.network, self.training)}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`."""
        return LearnedEditor.of(self.network, model, assets["network"])


class EnnNetwork(Network):
    """W ← W + Δ₀, then W ← W − α ∇W `steps` times; Δ₀ and α are learnt (eq. 4 and section 3.1).

    Δ₀ belongs to the patch: locality is measured against the model that nobody touched.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], method: EnnMethod) -> None:
        super().__init__()
        self.order = tuple(shapes)
        self.start = nn.ParameterList(torch.zeros(shape) for shape in shapes.values())
        self.log_rate = nn.Parameter(torch.full((len(shapes),), method.rate).log() / GAIN)
        self.steps, self.second_order = method.steps, method.second_order

    def propose(self, signal: Signal) -> Proposals:
        """Rank: the tokens of the group's edits times the steps, on top of the common start."""
        made = {
            name: Proposal(
                start.new_zeros(signal.n_groups, 0, start.shape[1]),
                start.new_zeros(signal.n_groups, 0, start.shape[0]),
                start,
            )
            for name, start in zip(self.order, self.start, strict=True)
        }
        for _ in range(self.steps):
            second_order = self.second_order and torch.is_grad_enabled()
            seen = signal.factors(made, second_order)
            for rate, name in zip((GAIN * self.log_rate).exp(), self.order, strict=True):
                x, delta = signal.by_group(seen[name].x), signal.by_group(seen[name].delta)
                made[name] = made[name].more(x, -rate * delta)
        return made
