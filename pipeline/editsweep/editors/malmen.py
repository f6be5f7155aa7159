"""MALMEN: many learnt edits solved into one weight change by least squares (arXiv 2311.04661)."""

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
from editsweep.learn.residual import MappingNetwork
from editsweep.learn.signal import Signal
from editsweep.learn.trained import Trained
from editsweep.learn.training import Training
from editsweep.model.language_model import LanguageModel
from editsweep.model.solve import ridge_factors


@dataclass(frozen=True)
class MalmenMethod:
    """The network: published are rank 1920 and rate 1e-6 on keys of another scale."""

    method: str = field(default="malmen", init=False)
    blocks: int = 3
    rank: int = 256
    rate: float = 2e-4
    damping: float = 1.0

    def network(self, shapes: Mapping[str, tuple[int, int]], d_model: int) -> Network:
        """One `FactorNetwork` for each shape of matrix."""
        return MalmenNetwork(shapes, self)


@dataclass(frozen=True)
class MalmenSpec:
    """Hyperparameters; `source` is what the network learns from, "" the dataset's train split."""

    name: ClassVar[str] = "malmen"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    source: str = ""
    network: MalmenMethod = field(default_factory=MalmenMethod)
    training: Training = field(default_factory=lambda: Training(steps=250, models=2, edits=8))

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.network.rank < 1 or self.network.rate <= 0 or self.network.damping <= 0:
            raise ConfigError("malmen: network.rank, rate and damping must be positive")

    def requirements(self) -> Mapping[str, Requirement]:
        """The trained network."""
        return {"network": Trained(self.source, self.network, self.training)}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`."""
        return LearnedEditor.of(self.network, model, assets["network"])


class MalmenNetwork(MappingNetwork):
    """The change of a matrix that best gives each token the output its own learnt edit would give.

    With keys K [n, d_in] (the tokens' inputs), D_t = −α (k_tᵀ x̃_t) δ̃_t and λ = e^log_damping:
    ΔWᵀ = (KᵀK + λI)⁻¹ KᵀD (eq. 4), α and λ learnt for each matrix. As factors: a = K and
    b = (KKᵀ + λI)⁻¹ D.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], method: MalmenMethod) -> None:
        super().__init__(shapes, method.rank, method.rate, film="after")
        self.log_damping = nn.Parameter(torch.full((len(shapes),), method.damping).log())

    def propose(self, signal: Signal) -> Proposals:
        """Rank: the tokens of the group's edits."""
        made = {}
        scales = zip(self.log_rate.exp(), self.log_damping.exp(), strict=True)
        for (rate, damping), (name, seen) in zip(scales, signal.factors().items(), strict=True):
            x, delta = self.mapping(name, seen)
            wanted = -rate * (seen.x * x).sum(-1, keepdim=True) * delta
            keys, values = signal.by_group(seen.x), signal.by_group(wanted)
            # A token that counts for nothing is no key either.
            keys = keys * signal.by_group(seen.live[..., None].to(keys.dtype))
            made[name] = Proposal(keys, ridge_factors(keys, values, damping))
        return made
