"""ROME: find the fact's key, solve for its value, insert both as one rank-one change.

arXiv 2202.05262: the key k* is the MLP's inner vector at the subject's last token, averaged over
contexts (eq. 3); the value v* is optimised so that the model says the target (eq. 4); the change is
Λ(C⁻¹k*)ᵀ with Λ such that Ŵk = v* (eq. 2). As in the published code, k in that last condition is the
bare prompt's key, the penalty is λ‖δ‖/‖v₀‖², and the divergence KL(p_δ ‖ p₀) is read after the
subject's last token of "{subject} is a".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.editors.base import Asset, Edited, Editor, Requirement
from editsweep.errors import ConfigError, EditError
from editsweep.model.contexts import Contexts
from editsweep.model.language_model import LanguageModel
from editsweep.model.moments import SecondMoment
from editsweep.model.optim import RowAdam
from editsweep.model.patch import LowRank, Patch
from editsweep.model.scoring import log_softmax
from editsweep.model.tail import Tail, TailRow
from editsweep.model.tokens import encode, join, last_token

# The field edits block 5 of 28 to 32 (GPT-J, Llama); GPT-2 XL's published 17 of 48 must be named.
DEPTH = 1 / 6


@dataclass(frozen=True)
class RomeSpec:
    """Hyperparameters; the defaults are those with which the field runs Llama-type models.

    `layer` None is a sixth of the depth. `moment` names the text that C is taken from
    (a dataset's split, or a file of ours or of plain text, `.txt`), or is `identity`.
    `ridge` times the mean of C's diagonal is added to it. `clamp` bounds ‖δ‖/‖v₀‖.
    """

    name: ClassVar[str] = "rome"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "sequential"})

    layer: int | None = None
    contexts: int = 10
    context_seed: int = 0
    rate: float = 0.5
    steps: int = 25
    stop: float = 5e-2
    divergence: float = 0.0625
    penalty: float = 1e-3
    clamp: float = 4.0
    moment: str = "world:train"
    vectors: int = 0
    ridge: float = 1e-2

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.steps < 1 or self.rate <= 0 or self.clamp <= 0 or self.contexts < 0:
            raise ConfigError("rome: steps, rate and clamp must be positive, contexts not negative")

    def requirements(self) -> Mapping[str, Requirement]:
        """The contexts, and C unless it is the identity."""
        needs: dict[str, Requirement] = {"contexts": Contexts(self.contexts, self.context_seed)}
        if self.moment != "identity":
            needs["moment"] = SecondMoment(self.moment, self.layer, DEPTH, self.vectors)
        return needs

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layer.
        """
        layer, factor = model.checked_layer(self.layer, DEPTH), None
        if self.moment != "identity":
            factor = cholesky(assets["moment"].tensors["moment"].to(model.device), self.ridge)
        templates = ("{}", *assets["contexts"].meta["templates"])
        return Rome(self, model, layer, templates, factor)


def cholesky(moment: Tensor, ridge: float) -> Tensor:
    """Lower factor of C + ridge · mean(diag C) · I, in float64."""
    eye = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    factor: Tensor = torch.linalg.cholesky(
        (moment + ridge * moment.diagonal().mean() * eye).double()
    )
    return factor


@dataclass(frozen=True, slots=True)
class FactRow:
    """A row of one fact: it changes from the subject's last token on; `targets` end it."""

    row: TailRow
    targets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Facts:
    """E facts: `told` has `per_fact` rows a fact, one a template, `alone` its bare subject.

    Column 0 of both is the subject's last token. Target `token[i]` is predicted in row `row[i]` of
    `told` at column `at[i]`; `share[i]` is one over the number of targets in that row.
    """

    told: Tail
    alone: Tail
    per_fact: int
    at: Tensor
    token: Tensor
    row: Tensor
    share: Tensor

    @classmethod
    def of(cls, model: LanguageModel, facts: Sequence[Sequence[FactRow]], layer: int) -> "Facts":
        """One pass over all rows of `facts`."""
        rows = [row for fact in facts for row in fact[:-1]]
        spots = [
            (len(r.row.ids) - len(r.targets) + k - r.row.start, token, i, 1 / len(r.targets))
            for i, r in enumerate(rows)
            for k, token in enumerate(r.targets)
        ]
        at, token, row, share = (
            torch.tensor(column, device=model.device) for column in zip(*spots, strict=True)
        )
        told = Tail.of(model, [r.row for r in rows], layer)
        alone = Tail.of(model, [fact[-1].row for fact in facts], layer)
        return cls(told, alone, len(facts[0]) - 1, at, token, row, share)

    def select(self, facts: Tensor) -> "Facts":
        """Some of the facts, in that order."""
        offsets = torch.arange(self.per_fact, device=facts.device)
        rows = (facts[:, None] * self.per_fact + offsets).flatten()
        new = torch.full((len(self.told.ids),), -1, device=facts.device)
        new[rows] = torch.arange(len(rows), device=facts.device)
        keep = new[self.row] >= 0
        spots = (self.at[keep], self.token[keep], new[self.row[keep]], self.share[keep])
        return Facts(self.told.select(rows), self.alone.select(facts), self.per_fact, *spots)

    def first(self, tensor: Tensor) -> Tensor:
        """[rows, columns, d] at the subject's last token, by fact [facts, per_fact, d]."""
        return tensor[:, 0].reshape(-1, self.per_fact, tensor.shape[-1])

    def nll(self, delta: Tensor) -> Tensor:
        """Negative log-likelihood of the target, mean over tokens, then templates [facts]."""
        hidden = self.told.run(_at_subject(delta.repeat_interleave(self.per_fact, 0), self.told))
        logp = log_softmax(self.told.model, hidden[self.row, self.at])
        loss = -logp.gather(1, self.token[:, None])[:, 0] * self.share
        by_row = loss.new_zeros(len(hidden)).index_add(0, self.row, loss)
        return by_row.reshape(-1, self.per_fact).mean(1)

    def after_subject(self, delta: Tensor) -> Tensor:
        """Log-probabilities after the bare subject [facts, vocabulary]."""
        hidden = self.alone.run(_at_subject(delta, self.alone))
        return log_softmax(self.alone.model, hidden[:, 0])


@dataclass(frozen=True)
class Solved:
    """One fact's change Δ = v uᵀ: u [d_mlp], v [d], the optimised δ [d]; a loss for each pass."""

    u: Tensor
    v: Tensor
    delta: Tensor
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Rome:
    """`templates[0]` is the bare "{}"; `factor` is C's Cholesky factor, None for the identity."""

    spec: RomeSpec
    model: LanguageModel
    layer: int
    templates: tuple[str, ...]
    factor: Tensor | None

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One rank-one patch a group of one request; `seed` is unused, contexts are drawn once."""
        facts: dict[int, list[FactRow]] = {}
        done: dict[int, Edited] = {}
        for index, (request,) in enumerate(groups):
            try:
                facts[index] = self.rows(request)
            except EditError as error:
                done[index] = Edited(error=error)
        for chunk in self._chunks(facts):
            solved = self.solve([facts[i] for i in chunk])
            done |= {i: self._edited(s) for i, s in zip(chunk, solved, strict=True)}
        return [done[i] for i in range(len(groups))]

    def rows(self, request: EditRequest) -> list[FactRow]:
        """A row for each template, then the bare subject on which the divergence is read.

        Raises:
            EditError: the request has no subject, or its target no tokens.
        """
        if request.subject is None:
            raise EditError(
                "no_subject", "rome edits at a subject's last token; this edit has none"
            )
        tokenizer, subject_end = self.model.tokenizer, len(request.subject)
        rows = []
        for template in self.templates:
            prompt = template.replace("{}", request.question)
            text = join(prompt, request.target_new)
            (joined,) = encode(tokenizer, [text], [len(prompt)])
            end = template.index("{}") + request.prompt.index("{}") + subject_end
            row = TailRow(joined.ids[:-1], last_token(tokenizer, text, end))
            rows.append(FactRow(row, joined.ids[joined.start :]))
        text = join(request.subject, "is a")
        place = last_token(tokenizer, text, subject_end)
        alone = tuple(tokenizer(text)["input_ids"][: place + 1])
        return [*rows, FactRow(TailRow(alone, place))]

    def solve(self, facts: Sequence[Sequence[FactRow]]) -> list[Solved]:
        """Key, value and change of each fact, all in one batch."""
        batch = Facts.of(self.model, facts, self.layer)
        keys = batch.first(batch.told.key).float()
        u = self._direction(keys.mean(1))
        v0 = batch.first(batch.told.value)[:, 0].float()
        deltas, losses = self._optimise(batch, v0)
        v = deltas / (keys[:, 0] * u).sum(1, keepdim=True)
        return [Solved(*x) for x in zip(u, v, deltas, losses, strict=True)]

    def _direction(self, key: Tensor) -> Tensor:
        """u = C⁻¹k / ‖C⁻¹k‖ [facts, d_mlp]."""
        if self.factor is not None:
            key = torch.cholesky_solve(key.double().T, self.factor).T.to(key.dtype)
        return F.normalize(key, dim=1)

    def _optimise(self, facts: Facts, v0: Tensor) -> tuple[Tensor, list[tuple[float, ...]]]:
        """δ [facts, d] for which the model says the target; a finished fact leaves the batch."""
        spec = self.spec
        with torch.no_grad():
            before = facts.after_subject(torch.zeros_like(v0))
        deltas = torch.zeros_like(v0)
        losses: list[list[float]] = [[] for _ in v0]
        live, delta = torch.arange(len(v0), device=v0.device), torch.zeros_like(v0)
        adam, size = RowAdam.of(delta, spec.rate), v0.norm(dim=1, keepdim=True)
        for step in range(1, spec.steps + 1):
            delta.requires_grad_()
            loss = self._loss(facts, before, delta, size)
            for fact, value in zip(live.tolist(), loss.tolist(), strict=True):
                losses[fact].append(value)
            going = loss.detach() >= spec.stop
            if step == spec.steps:
                going[:] = False
            deltas[live] = delta.detach()
            if not bool(going.any()):
                break
            (gradient,) = torch.autograd.grad(loss.sum(), delta)
            stay = going.nonzero()[:, 0]
            delta, gradient = delta.detach()[stay], gradient[stay]
            if len(stay) < len(live):
                facts, adam, live = facts.select(stay), adam.select(stay), live[stay]
                before, size = before[stay], size[stay]
            adam.step(delta, gradient)
            delta *= (spec.clamp * size / delta.norm(dim=1, keepdim=True)).clamp(max=1)
        return deltas, [tuple(values) for values in losses]

    def _loss(self, facts: Facts, before: Tensor, delta: Tensor, size: Tensor) -> Tensor:
        """The objective of each fact, in nats."""
        spec, after = self.spec, facts.after_subject(delta)
        divergence = (after.exp() * (after - before)).sum(1)
        penalty = torch.linalg.vector_norm(delta, dim=1) / size[:, 0] ** 2
        loss: Tensor = facts.nll(delta) + spec.divergence * divergence + spec.penalty * penalty
        return loss

    def _chunks(self, facts: Mapping[int, Sequence[FactRow]]) -> list[list[int]]:
        """Facts of like length together, as many as the budget holds, none half padding."""
        width = {i: max(len(r.row.ids) - r.row.start for r in rows) for i, rows in facts.items()}
        chunks: list[list[int]] = []
        for index in sorted(facts, key=lambda i: -width[i]):
            tokens = len(facts[index]) * width[chunks[-1][0]] if chunks else 0
            full = not chunks or (len(chunks[-1]) + 1) * tokens > self.model.training_budget
            if full or 2 * width[index] <= width[chunks[-1][0]]:
                chunks.append([])
            chunks[-1].append(index)
        return chunks

    def _edited(self, solved: Solved) -> Edited:
        change = LowRank(solved.u[None], solved.v[None])
        patch = Patch({self.model.mlp_out(self.layer): change})
        steps, loss = len(solved.losses), solved.losses[-1]
        if not patch.finite:
            reason = "the value optimisation or the rank-one solve gave a number that is not finite"
            return Edited(steps=steps, error=EditError("not_finite", reason))
        return Edited(patch, steps, loss)


def _at_subject(delta: Tensor, tail: Tail) -> Tensor:
    """[rows, columns, d]: each row's δ in column 0."""
    return F.pad(delta[:, None], (0, 0, 0, tail.ids.shape[1] - 1))
