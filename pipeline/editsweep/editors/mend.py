"""MEND: a network that turns the gradient of an edit into a better one (arXiv 2110.11309)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

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


@dataclass(frozen=True)
class MendMethod:
    """The network: published are rank 1920, rate 1e-4 and 3 blocks; `rank` is of both layers."""

    method: str = field(default="mend", init=False)
    blocks: int = 3
    rank: int = 256
    rate: float = 1e-4

    def network(self, shapes: Mapping[str, tuple[int, int]], d_model: int) -> Network:
        """One `FactorNetwork` for each shape of matrix."""
        return MendNetwork(shapes, self.rank, self.rate, film="before")


@dataclass(frozen=True)
class MendSpec:
    """Hyperparameters; `source` is what the network learns from, "" the dataset's train split."""

    name: ClassVar[str] = "mend"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    source: str = ""
    network: MendMethod = field(default_factory=MendMethod)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.network.rank < 1 or self.network.rate <= 0:
            raise ConfigError("mend: network.rank and network.rate must be positive")

    def requirements(self) -> Mapping[str, Requirement]:
        """The trained network."""
        return {"network": Trained(self.source, self.network, self.training)}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`."""
        return LearnedEditor.of(self.network, model, assets["network"])


class MendNetwork(MappingNetwork):
    """ΔW = −α Σ_t δ̃_t x̃_tᵀ with (x̃, δ̃) of the network of W's shape, and α of W alone (eq. 3).

    At the start, before anything was observed, this is one step of gradient descent of rate α.
    """

    def propose(self, signal: Signal) -> Proposals:
        """Rank: the tokens of the group's edits."""
        made = {}
        for rate, (name, seen) in zip(self.log_rate.exp(), signal.factors().items(), strict=True):
            x, delta = self.mapping(name, seen)
            made[name] = Proposal(signal.by_group(x), signal.by_group(-rate * delta))
        return made
