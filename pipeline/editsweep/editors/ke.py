"""KE: a network that reads the edit's text and gates its gradient (arXiv 2104.08164)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from editsweep.editors.base import Asset, Editor, Requirement
from editsweep.editors.learned import LearnedEditor
from editsweep.errors import ConfigError
from editsweep.learn.changes import Proposal, Proposals
from editsweep.learn.network import Network
from editsweep.learn.signal import Factors, FactorsByModule, Signal
from editsweep.learn.trained import Trained
from editsweep.learn.training import Training
from editsweep.model.language_model import LanguageModel


@dataclass(frozen=True)
class KeMethod:
    """The network; sizes are the published ones, `rate` scales a gradient of norm 1."""

    method: str = field(default="ke", init=False)
    blocks: int = 3
    hidden: int = 256
    code: int = 1024
    bottleneck: int = 128
    rate: float = 0.1

    def network(self, shapes: Mapping[str, tuple[int, int]], d_model: int) -> Network:
        """An encoder of the edit's text, and a conditioner for each matrix."""
        return KeNetwork(shapes, d_model, self)


@dataclass(frozen=True)
class KeSpec:
    """Hyperparameters; `source` is what the network learns from, "" the dataset's train split."""

    name: ClassVar[str] = "ke"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "sequential"})

    source: str = ""
    network: KeMethod = field(default_factory=KeMethod)
    training: Training = field(default_factory=lambda: Training(margin=1e-3))

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        sizes = (self.network.hidden, self.network.code, self.network.bottleneck)
        if min(sizes) < 1 or self.network.rate <= 0:
            raise ConfigError("ke: network.hidden, code, bottleneck and rate must be positive")
        if self.training.edits != 1:
            raise ConfigError("ke: training.edits must be 1: it edits one fact at a time")

    def requirements(self) -> Mapping[str, Requirement]:
        """The trained network."""
        return {"network": Trained(self.source, self.network, self.training)}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`."""
        return LearnedEditor.of(self.network, model, assets["network"])


@dataclass(frozen=True)
class Gates:
    """What a conditioner says of one matrix, for E edits.

    `gate_out` [E, d_out] and `gate_in` [E, d_in] are the factors of A, `shift_out` and `shift_in`
    those of B; `size` [E] is the length of the step.
    """

    gate_out: Tensor
    gate_in: Tensor
    shift_out: Tensor
    shift_in: Tensor
    size: Tensor

    def dense(self, gradient: Tensor) -> Tensor:
        """−size · (∇W ⊙ A + B) as matrices [E, d_out, d_in]; `gradient` is ∇W (section 3.2)."""
        gate = self.gate_out[:, :, None] * self.gate_in[:, None]
        shift = self.shift_out[:, :, None] * self.shift_in[:, None]
        return -self.size[:, None, None] * (gradient * gate + shift)

    def factors(self, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The same as a [E, T + 1, d_in] and b [E, T + 1, d_out] for ∇W = Σ_t delta_t x_tᵀ.

        (Σ δ xᵀ) ⊙ (u vᵀ) = Σ (u ⊙ δ)(v ⊙ x)ᵀ: a gated gradient is of no higher rank.
        """
        a = torch.cat([x * self.gate_in[:, None], self.shift_in[:, None]], 1)
        b = torch.cat([delta * self.gate_out[:, None], self.shift_out[:, None]], 1)
        return a, -self.size[:, None, None] * b


class Conditioner(nn.Module):
    """From the code of an edit to the gates of one matrix of shape (d_out, d_in)."""

    gradient_norm: Tensor

    def __init__(self, shape: tuple[int, int], code: int, bottleneck: int, rate: float) -> None:
        super().__init__()
        self.shape = shape
        self.hidden = nn.Linear(code, bottleneck)
        self.last = nn.Linear(bottleneck, 2 * sum(shape) + 1)
        self.log_rate = nn.Parameter(torch.tensor(rate).log())
        self.register_buffer("gradient_norm", torch.ones(()))

    def forward(self, code: Tensor) -> Gates:
        """Gates for codes [E, code]; A starts as all ones and B as zero, nearly."""
        d_out, d_in = self.shape
        parts = self.last(torch.tanh(self.hidden(code))).split([d_out, d_in, d_out, d_in, 1], -1)
        gate_out, gate_in, shift_out, shift_in, eta = parts
        return Gates(
            gate_out.softmax(-1) * d_out,
            1 + gate_in,
            shift_out.softmax(-1),
            shift_in,
            2 * torch.sigmoid(eta[:, 0]) * self.log_rate.exp(),
        )


class KeNetwork(Network):
    """An encoder over the tokens of the edit, and a conditioner for each matrix.

    The gradient is divided by its mean norm over training edits, so that `rate` means the same in
    every layer.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, int]], d_model: int, method: KeMethod
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(d_model, method.hidden, batch_first=True, bidirectional=True)
        self.encoder = nn.Linear(2 * method.hidden, method.code)
        self.conditioners: list[Conditioner] = nn.ModuleList(  # type: ignore[assignment]
            Conditioner(shape, method.code, method.bottleneck, method.rate)
            for shape in shapes.values()
        )
        self._norms: dict[str, list[float]] = {name: [] for name in shapes}

    def draw(self, generator: torch.Generator) -> None:
        """Draw every matrix uniformly by its width; biases, and what decides the gates, near zero."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.dim() < 2:
                    parameter.mul_(0 if "log_rate" not in name else 1)
                    continue
                bound = parameter.shape[1] ** -0.5 * (0.01 if ".last." in name else 1)
                parameter.uniform_(-bound, bound, generator=generator)

    def observe(self, factors: FactorsByModule) -> None:
        """Norms of the gradients of training edits."""
        for name, seen in factors.items():
            self._norms[name] += gradient_norms(seen).tolist()

    def settle(self) -> None:
        """Keep their means."""
        for conditioner, norms in zip(self.conditioners, self._norms.values(), strict=True):
            mean = sum(norms) / max(1, len(norms))
            conditioner.gradient_norm.fill_(mean or 1.0)

    def encode(self, signal: Signal) -> Tensor:
        """A code for each edit [E, code], from its own tokens alone."""
        ids, lengths = signal.tokens()
        embedded = signal.model.module.get_input_embeddings()(ids).float()
        packed = pack_padded_sequence(
            embedded, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (last, _) = self.lstm(packed)
        return torch.tanh(self.encoder(torch.cat([last[0], last[1]], -1)))

    def propose(self, signal: Signal) -> Proposals:
        """Rank: the tokens of the edit, and one."""
        code = self.encode(signal)
        made = {}
        for conditioner, (name, seen) in zip(
            self.conditioners, signal.factors().items(), strict=True
        ):
            a, b = conditioner(code).factors(seen.x, seen.delta / conditioner.gradient_norm)
            made[name] = Proposal(signal.by_group(a), signal.by_group(b))
        return made


def gradient_norms(factors: Factors) -> Tensor:
    """Frobenius norm of each edit's gradient [E], by way of the Gram matrices of its factors."""
    grams = (factors.x @ factors.x.mT) * (factors.delta @ factors.delta.mT)
    return grams.sum((1, 2)).clamp(min=0).sqrt()
