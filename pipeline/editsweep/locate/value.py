"""The search for a value: what must be added at the subject so that the model says the target.

ROME's objective (arXiv 2202.05262, eq. 4), which MEMIT (arXiv 2210.07229, eq. 16) and PMET
(arXiv 2308.08742, eq. 10) keep. As in the published code, the penalty is λ‖δ‖/‖v₀‖², the divergence
is KL(p_δ ‖ p₀), read after the subject's last token of "{subject} is a".
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from editsweep.locate.facts import Facts
from editsweep.locate.site import Site
from editsweep.model.optim import RowAdam
from editsweep.model.scoring import log_softmax


@dataclass(frozen=True)
class Search:
    """How δ is searched, by Adam.

    A fact is done after `steps` passes, or when its loss is below `stop`. After each update ‖δ‖ is
    at most `clamp` times ‖v₀‖. Where `relaxed` is given (PMET), the likelihood counts only so much
    once every target token is the model's first choice, and such a fact is done when its divergence
    term is below `stop`.
    """

    rate: float
    steps: int
    stop: float
    divergence: float
    penalty: float
    clamp: float
    relaxed: float | None = None


@dataclass(frozen=True)
class Values:
    """For F facts: the unedited `start` and the found `delta` [F, parts, d]; a loss for each pass."""

    start: Tensor
    delta: Tensor
    losses: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class _Pass:
    """What one pass says of each fact [facts], in nats; `said`: every target is the first choice.

    `after` has the log-probabilities after the bare subject [facts, vocabulary].
    """

    nll: Tensor
    said: Tensor
    after: Tensor

    def divergence(self, before: Tensor) -> Tensor:
        """KL(p_δ ‖ p₀) [facts], in nats."""
        return (self.after.exp() * (self.after - before)).sum(1)


@dataclass
class _Batch:
    """The facts that are still searched, all tensors by fact."""

    facts: Facts
    site: Site
    before: Tensor
    size: Tensor
    weight: Tensor
    adam: RowAdam
    live: Tensor

    def select(self, stay: Tensor) -> "_Batch":
        """Some of them."""
        return _Batch(
            self.facts.select(stay),
            self.site,
            self.before[stay],
            self.size[stay],
            self.weight[stay],
            self.adam.select(stay),
            self.live[stay],
        )


def find_values(facts: Facts, site: Site, search: Search) -> Values:
    """δ of every fact, all in one batch; a finished fact leaves it."""
    start = site.start(facts)
    delta = torch.zeros_like(start)
    batch = _Batch(
        facts=facts,
        site=site,
        before=torch.empty(0),
        size=start.norm(dim=2, keepdim=True),
        weight=torch.ones(len(start), device=start.device),
        adam=RowAdam.of(delta, search.rate),
        live=torch.arange(len(start), device=start.device),
    )
    found, losses = torch.zeros_like(start), [list[float]() for _ in start]
    for step in range(1, search.steps + 1):
        delta.requires_grad_()
        seen = _look(batch, delta)
        if step == 1:  # δ is still zero
            batch.before = seen.after.detach()
        loss = _loss(seen, batch, delta, search)
        for fact, value in zip(batch.live.tolist(), loss.tolist(), strict=True):
            losses[fact].append(value)
        found[batch.live] = delta.detach()
        going = _going(seen, batch.before, loss.detach(), search)
        if step == search.steps or not bool(going.any()):
            break
        (gradient,) = torch.autograd.grad(loss.sum(), delta)
        stay = going.nonzero()[:, 0]
        delta, gradient = delta.detach()[stay], gradient[stay]
        if search.relaxed is not None:
            batch.weight = torch.where(seen.said, search.relaxed, 1.0)
        if len(stay) < len(batch.live):
            batch = batch.select(stay)
        batch.adam.step(delta, gradient)
        delta *= (search.clamp * batch.size / delta.norm(dim=2, keepdim=True)).clamp(max=1)
    return Values(start, found, tuple(tuple(values) for values in losses))


def _look(batch: _Batch, delta: Tensor) -> _Pass:
    facts, model = batch.facts, batch.facts.told.model
    told, alone = _hidden(facts, batch.site, delta)
    # One projection to the vocabulary for both: it is the largest matrix of a small model.
    both = log_softmax(model, torch.cat([told[facts.row, facts.at], alone]))
    logp, after = both[: len(facts.row)], both[len(facts.row) :]
    token_nll = -logp.gather(1, facts.token[:, None])[:, 0] * facts.share
    by_row = token_nll.new_zeros(len(told)).index_add(0, facts.row, token_nll)
    missed = (logp.detach().argmax(1) != facts.token).to(logp.dtype)
    misses = missed.new_zeros(len(told)).index_add(0, facts.row, missed)
    return _Pass(
        nll=by_row.reshape(-1, facts.per_fact).mean(1),
        said=misses.reshape(-1, facts.per_fact).sum(1) == 0,
        after=after,
    )


def _hidden(facts: Facts, site: Site, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Final hidden states of the rows [rows, columns, d], and after the bare subject [facts, d]."""
    rows = delta.repeat_interleave(facts.per_fact, 0)
    if facts.alone is not None:
        return site.final(facts.told, rows), site.final(facts.alone, delta)[:, 0]
    both = site.final(facts.told, torch.cat([rows, delta]))
    return both[: len(rows)], both[len(rows) :, 0]


def _loss(seen: _Pass, batch: _Batch, delta: Tensor, search: Search) -> Tensor:
    penalty = (torch.linalg.vector_norm(delta, dim=2) / batch.size[..., 0] ** 2).sum(1)
    loss: Tensor = (
        batch.weight * seen.nll
        + search.divergence * seen.divergence(batch.before)
        + search.penalty * penalty
    )
    return loss


def _going(seen: _Pass, before: Tensor, loss: Tensor, search: Search) -> Tensor:
    """Which facts are not done."""
    if search.relaxed is None:
        return loss >= search.stop
    return ~(seen.said & (search.divergence * seen.divergence(before).detach() <= search.stop))
