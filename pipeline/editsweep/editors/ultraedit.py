"""UltraEdit: one gradient, normalised over a lifetime of edits, solved into weights (arXiv 2505.14679).

Nothing is trained. Each token at which a target's token is predicted gives a feature of every edited
matrix: h, what enters it, and g, the gradient at its output. A running mean and variance of [h; g],
which has seen these tokens too, gives ĥ and ĝ; then v_t = −η ‖ĥ_t‖² ĝ_t, and ΔWᵀ = (HᵀH + I)⁻¹HᵀV with
the keys H as they are (section 3, algorithm 1), which is MALMEN's closed form with damping 1.

Two things differ from the published code. Each matrix has its own statistics (there one for all
matrices of a shape), and the loss of an edit is its mean over the target's tokens (there over all
tokens of a turn), so that g does not depend on how many edits share a turn. That code also cuts keys
and gradients into different numbers of batches when the turn is not a multiple of the batch; here
there is one set of tokens.

The statistics of a single edit are undefined: a token equals its own mean. So the running statistics
start from edits of a train split (`warm`), as if those had been edited before; with `warm: 0` they
start empty, as published, which wants large batches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from editsweep.core.ids import content_id
from editsweep.core.types import Corpus, EditRequest
from editsweep.editors.base import Asset, Edited, Editor, Requirement, State
from editsweep.editors.groups import Ready, divided, each, edit_groups, without
from editsweep.errors import ConfigError, EditError
from editsweep.learn.examples import encode_edit
from editsweep.learn.signal import Signal
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch, low_rank
from editsweep.model.solve import ridge_factors
from editsweep.model.tokens import Encoded
from editsweep.model.upper import Below

# Edits whose gradients are held at once; only their target tokens' are kept.
PASS = 64
# Mistral's published output projections, 29 and 30 of 32 blocks.
FIRST, LAST = 29 / 32, 30 / 32


@dataclass(frozen=True)
class Running:
    """Mean and sum of squared deviations of n tokens' features, float64; [width] each."""

    count: Tensor
    mean: Tensor
    squares: Tensor

    @classmethod
    def empty(cls, width: int, device: torch.device) -> "Running":
        """Nothing seen."""
        zeros = torch.zeros(width, dtype=torch.float64, device=device)
        return cls(torch.zeros((), dtype=torch.float64, device=device), zeros, zeros.clone())

    def seen(self, tokens: Tensor) -> "Running":
        """With [n, width] more tokens, merged exactly (Chan et al. 1983)."""
        wide = tokens.double()
        mean, n = wide.mean(0), len(wide)
        total, apart = self.count + n, mean - self.mean
        squares = self.squares + (wide - mean).square().sum(0)
        squares = squares + apart.square() * (self.count * n / total)
        return Running(total, self.mean + apart * (n / total), squares)

    def normalised(self, tokens: Tensor) -> Tensor:
        """[n, width], mean 0 and deviation 1 over what was seen; 0 where nothing ever moved."""
        std = (self.squares / (self.count - 1).clamp(min=1)).sqrt()
        moved = (tokens.double() - self.mean) / torch.where(std > 0, std, torch.inf)
        return moved.to(tokens.dtype)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is kept, by name."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}


Statistics = Mapping[str, Running]
"""By the name of the matrix."""

Features = Mapping[str, Tensor]
"""[h; g] at an edit's target tokens [tokens, d_in + d_out], by the name of the matrix."""


def to_state(statistics: Statistics) -> State:
    """As tensors."""
    return {f"{m}/{part}": t for m, one in statistics.items() for part, t in one.tensors.items()}


def from_state(state: State, modules: Sequence[str]) -> Statistics:
    """What `to_state` made."""
    parts = ("count", "mean", "squares")
    return {m: Running(*(state[f"{m}/{part}"] for part in parts)) for m in modules}


@dataclass(frozen=True)
class WarmStatistics:
    """Statistics of the first `edits` edits of `source`, in the order of their ids' hashes."""

    source: str
    edits: int
    modules: tuple[str, ...]

    def make(self, model: LanguageModel, corpus: Corpus, work: Path | None = None) -> Asset:
        """Mean, squares and count by matrix; meta: the number of edits.

        Raises:
            ConfigError: `source` has fewer than two edits that can be tokenised.
        """
        modules = chosen(model, self.modules)
        edits: list[Encoded] = []
        for request in sorted(corpus.requests, key=lambda r: content_id(r.edit_id)):
            if len(edits) == self.edits:
                break
            try:
                edits.append(encode_edit(model, request))
            except EditError:
                continue
        if len(edits) < 2:
            raise ConfigError(
                f"ultraedit: {self.source!r} has {len(edits)} edits to warm its statistics with, two "
                "are needed: name a `source` with more, or write `warm: 0` and edit in batches"
            )
        seen = features(model, modules, edits)
        made = {m: _empty(model, m).seen(torch.cat([f[m] for f in seen])) for m in modules}
        return Asset(to_state(made), {"edits": len(edits)})


@dataclass(frozen=True)
class UltraEditSpec:
    """Hyperparameters; published η is 1e-6 for models of 4096 dimensions, on other matrices.

    `modules` are names of linear modules; () is the MLP output projections of the blocks that are
    published for Mistral, scaled by depth. The published Llama-3 choice (gates of blocks 11 to 15, up
    projections of 18 to 24) did not hold on SmolLM2 at any rate (docs/fine-tuning.md). `source` is
    where the `warm` edits come from, "" the dataset's train split.
    """

    name: ClassVar[str] = "ultraedit"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    rate: float = 1e-3
    modules: tuple[str, ...] = ()
    warm: int = 100
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.rate <= 0 or self.warm < 0 or self.warm == 1:
            raise ConfigError("ultraedit: rate must be positive, warm 0 or at least 2")

    def requirements(self) -> Mapping[str, Requirement]:
        """The statistics that a sequence starts from, unless it starts empty."""
        if not self.warm:
            return {}
        return {"statistics": WarmStatistics(self.source, self.warm, self.modules)}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such module.
        """
        modules = chosen(model, self.modules)
        start = {m: _empty(model, m) for m in modules}
        if self.warm:
            held = {n: t.to(model.device) for n, t in assets["statistics"].tensors.items()}
            start = dict(from_state(held, modules))
        return UltraEdit(self, model, modules, start)


@dataclass(frozen=True)
class UltraEdit:
    """All edits' features come from shared passes; each group is then solved on its own."""

    spec: UltraEditSpec
    model: LanguageModel
    modules: tuple[str, ...]
    start: Statistics

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One patch a group, each as the first after the start; `seed` is not used."""
        return edit_groups(groups, self._seen, self._edit)

    def edit_next(
        self, group: Sequence[EditRequest], state: State, seed: int
    ) -> tuple[Edited, State]:
        """One turn: its tokens join the statistics, then it is solved with them."""
        made, errors = divided(self._seen(group))
        if not made:
            return without(None, errors), state
        before = from_state(state, self.modules) if state else self.start
        edited, after = self._solve(list(made.values()), before)
        return without(edited, errors), state if edited.error else to_state(after)

    def _seen(self, requests: Sequence[EditRequest]) -> list[Features | EditError]:
        """Each request's features, or why it has none."""
        found = each(partial(encode_edit, self.model))(requests)
        edits, errors = divided(found)
        seen = features(self.model, self.modules, list(edits.values()))
        known: dict[int, Features | EditError] = {**errors}
        known |= dict(zip(edits, seen, strict=True))
        return [known[place] for place in range(len(requests))]

    def _edit(self, groups: Sequence[Sequence[Ready[Features]]]) -> list[Edited]:
        return [self._solve([seen for _, seen in group], self.start)[0] for group in groups]

    def _solve(self, seen: Sequence[Features], before: Statistics) -> tuple[Edited, Statistics]:
        """The patch of one turn, and the statistics with its tokens."""
        adds, after = {}, {}
        damping = torch.ones((), device=self.model.device)
        for module in self.modules:
            tokens = torch.cat([one[module] for one in seen])
            d_in = self.model.weight(module).shape[1]
            after[module] = before[module].seen(tokens)
            hat = after[module].normalised(tokens)
            h, g = hat[:, :d_in], hat[:, d_in:]
            values = -self.spec.rate * h.square().sum(1, keepdim=True) * g
            keys = tokens[:, :d_in].clone()
            adds[module] = low_rank(keys, ridge_factors(keys, values, damping))
        patch = Patch(adds)
        if not patch.finite:
            return Edited(error=EditError("not_finite", "the change is not finite")), before
        return Edited(patch), after


def features(
    model: LanguageModel, modules: tuple[str, ...], edits: Sequence[Encoded]
) -> list[Features]:
    """[h; g] of every matrix at an edit's target tokens [tokens, d_in + d_out], edit by edit."""
    first = min(_block(model, name) for name in modules)
    below, made = Below(model, first, memory_bytes=0), list[Features]()
    for start in range(0, len(edits), PASS):
        some = edits[start : start + PASS]
        factors = Signal.of(below, modules, [[edit] for edit in some]).factors()
        for row, edit in enumerate(some):
            span = slice(edit.start - 1, len(edit.ids) - 1)
            both = {m: (f.x[row, span], f.delta[row, span]) for m, f in factors.items()}
            made.append({m: torch.cat(pair, 1) for m, pair in both.items()})
    return made


def chosen(model: LanguageModel, modules: tuple[str, ...]) -> tuple[str, ...]:
    """The matrices that are edited: those named, or the default ones.

    Raises:
        ConfigError: the model has no such module in a block.
    """
    if modules:
        for name in modules:
            _block(model, name)
        return modules
    low, high = (min(round(part * model.depth), model.depth - 1) for part in (FIRST, LAST))
    return tuple(model.mlp_out(layer) for layer in range(low, high + 1))


def _block(model: LanguageModel, name: str) -> int:
    """The block in which a linear module lies."""
    for layer in range(model.depth):
        if name in model.block_matrices(layer):
            return layer
    some = ", ".join(model.block_matrices(0))
    raise ConfigError(f"ultraedit: {model.name} has no {name!r} to edit; block 0 has {some}")


def _empty(model: LanguageModel, module: str) -> Running:
    return Running.empty(sum(model.weight(module).shape), model.device)
