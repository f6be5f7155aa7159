"""What a network reads of an edit: its text, and its gradient as rank-one factors a token.

The gradient of a linear module's weight is the sum over tokens of δ xᵀ, with x what enters the
module and δ the gradient of the loss with respect to its output; the matrix itself is never made
(arXiv 2110.11309, section 3.1).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from editsweep.learn.changes import Proposals, proposed
from editsweep.model.hooks import reading
from editsweep.model.language_model import LanguageModel
from editsweep.model.scoring import log_softmax
from editsweep.model.tokens import Encoded
from editsweep.model.upper import Below, TokenRows, run_upper


@dataclass(frozen=True)
class Factors:
    """Gradient factors of one module for E edits: x [E, T, d_in], delta [E, T, d_out].

    Tokens that do not matter are zero in both, so that Σ_t delta xᵀ is each edit's gradient.
    """

    x: Tensor
    delta: Tensor

    @property
    def live(self) -> Tensor:
        """Which tokens matter [E, T]."""
        return (self.delta != 0).any(-1)


@dataclass(frozen=True)
class Signal:
    """E edits in G groups; edit e belongs to group[e] and is its number slot[e]."""

    model: LanguageModel
    below: Below
    modules: tuple[str, ...]
    edits: tuple[Encoded, ...]
    group: Tensor
    slot: Tensor

    @classmethod
    def of(
        cls,
        below: Below,
        modules: tuple[str, ...],
        groups: Sequence[Sequence[Encoded]],
    ) -> "Signal":
        """The signal of `groups`; an edit is its question with its target behind."""
        places = [(g, s) for g, group in enumerate(groups) for s in range(len(group))]
        edits = tuple(edit for group in groups for edit in group)
        index = torch.tensor(places, device=below.model.device)
        return cls(below.model, below, modules, edits, index[:, 0], index[:, 1])

    @property
    def n_groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max()) + 1

    def tokens(self) -> tuple[Tensor, Tensor]:
        """Token ids of whole edits [E, T], padded on the right, and their lengths [E]."""
        rows = TokenRows.of(self.model, [edit.ids for edit in self.edits])
        return rows.ids, rows.real.sum(1)

    def factors(
        self, proposals: Proposals | None = None, second_order: bool = False
    ) -> dict[str, Factors]:
        """Gradient factors of each module at the model changed by `proposals`, edit by edit.

        The loss of an edit is the mean negative log-likelihood of its target's tokens. With
        `second_order` the factors have gradients of their own with respect to `proposals`, and all
        edits go through the model in one pass; otherwise in as many as the token budget wants.
        """
        width = max(len(edit.ids) for edit in self.edits) - 1
        size = len(self.edits)
        if not second_order:
            size = max(1, self.model.training_budget // width)
        found = [
            self._factors(slice(start, start + size), width, proposals, second_order)
            for start in range(0, len(self.edits), size)
        ]
        return {
            name: Factors(
                torch.cat([part[name].x for part in found]),
                torch.cat([part[name].delta for part in found]),
            )
            for name in self.modules
        }

    def _factors(
        self, which: slice, width: int, proposals: Proposals | None, second_order: bool
    ) -> dict[str, Factors]:
        edits = self.edits[which]
        ids = [edit.ids[:-1] for edit in edits]
        rows = TokenRows.of(self.model, ids)
        hidden = self.below.hidden(ids).requires_grad_()
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        with ExitStack() as held:
            # Fused attention has no second derivative.
            held.enter_context(sdpa_kernel(SDPBackend.MATH) if second_order else nullcontext())
            held.enter_context(torch.enable_grad())
            if proposals:
                held.enter_context(proposed(self.model, proposals, self.group[which]))
            held.enter_context(_outputs(self.model, self.modules, seen))
            final = run_upper(self.model, rows, hidden, self.below.first)
            losses = edit_losses(self.model, final, edits)
            outputs = [seen[name][1] for name in self.modules]
            deltas = torch.autograd.grad(losses.sum(), outputs, create_graph=second_order)
        made = {}
        for name, delta in zip(self.modules, deltas, strict=True):
            x = seen[name][0] if second_order else seen[name][0].detach()
            matters = ((delta != 0).any(-1) & rows.real)[..., None]
            made[name] = Factors(
                _widened(x.float() * matters, width), _widened(delta.float() * matters, width)
            )
        return made

    def by_group(self, of_edits: Tensor) -> Tensor:
        """[E, T, d] as [G, slots * T, d], zero where a group has fewer edits."""
        slots = int(self.slot.max()) + 1
        shape = (self.n_groups, slots, *of_edits.shape[1:])
        laid = of_edits.new_zeros(shape).index_put((self.group, self.slot), of_edits)
        return laid.flatten(1, 2)


def _widened(tokens: Tensor, width: int) -> Tensor:
    """[E, T, d] with zeros up to T = width."""
    return torch.nn.functional.pad(tokens, (0, 0, 0, width - tokens.shape[1]))


def edit_losses(model: LanguageModel, final: Tensor, edits: Sequence[Encoded]) -> Tensor:
    """Mean negative log-likelihood of each edit's target tokens [E], in nats."""
    places = [
        (row, at - 1, edit.ids[at], 1 / (len(edit.ids) - edit.start))
        for row, edit in enumerate(edits)
        for at in range(edit.start, len(edit.ids))
    ]
    row, at, token, share = (list(column) for column in zip(*places, strict=True))
    logp = log_softmax(model, final[row, at])
    nll = -logp.gather(1, torch.tensor(token, device=logp.device)[:, None])[:, 0]
    shares = torch.tensor(share, device=logp.device)
    rows = torch.tensor(row, device=logp.device)
    return logp.new_zeros(len(edits)).index_add(0, rows, nll * shares)


@contextmanager
def _outputs(
    model: LanguageModel, modules: Sequence[str], seen: dict[str, tuple[Tensor, Tensor]]
) -> Iterator[None]:
    """Within the block, `seen` gets input and output of each module."""
    with ExitStack() as held:
        for name in modules:

            def see(x: Tensor, y: Tensor, name: str = name) -> None:
                seen[name] = (x, y)

            held.enter_context(reading(model, name, see))
        yield


def gradient(factors: Factors) -> Tensor:
    """Each edit's gradient as a matrix [E, d_out, d_in]; for tests and small models."""
    return factors.delta.mT @ factors.x


FactorsByModule = Mapping[str, Factors]
