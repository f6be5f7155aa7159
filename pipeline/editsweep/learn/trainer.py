"""One trainer for every network that edits.

A step: read the plain gradients of the step's edits, let the network propose a change for each
group, measure the outer loss under those changes, take its gradient with respect to the changes,
and hand that back to the network. The language model and the network never share a graph, so the
model's activations are gone before the network's are needed (arXiv 2311.04661, section 3.2).

Which edits a step takes depends on the seed and the step's number alone: not on the number of
workers, and not on whether training was interrupted.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editsweep import __version__
from editsweep.core.types import EditRequest
from editsweep.errors import ConfigError
from editsweep.learn import checkpoint
from editsweep.learn.changes import Proposals
from editsweep.learn.checkpoint import State
from editsweep.learn.examples import Example, examples
from editsweep.learn.network import Method, Network, make_network, place_of
from editsweep.learn.outer import Outer, Tally
from editsweep.learn.signal import Signal
from editsweep.learn.split import Part, Split, divide
from editsweep.learn.team import ALONE, Team
from editsweep.learn.training import Training
from editsweep.model.asset import Asset
from editsweep.model.language_model import LanguageModel
from editsweep.model.upper import Below

MARGIN_FLOOR, MARGIN_FALL, MARGIN_HITS = 1e-5, 0.8, 0.9
"""The margin is narrowed so much, down to this, when so many validation edits hold (KE's code)."""

TESTED = 4
"""So many times the validation records are looked at in the test part."""

Report = Callable[[Mapping[str, float]], None]
Groups = Sequence[Sequence[Example]]


@dataclass(frozen=True)
class Job:
    """What does not change during a training; `test` is looked at only when it is over."""

    training: Training
    network: Network
    modules: tuple[str, ...]
    outer: Outer
    learnt: Sequence[Example]
    validation: Groups
    test: Groups
    split: Mapping[str, Any]
    team: Team

    def signal(self, groups: Groups) -> Signal:
        """What the network reads of these groups."""
        edits = [[example.edit for example in group] for group in groups]
        return Signal.of(self.outer.below, self.modules, edits)

    def groups_at(self, step: int) -> list[list[Example]]:
        """The groups of step number `step`, the first being 1."""
        batch, size = self.training.batch, len(self.learnt)
        spots = range((step - 1) * batch, step * batch)
        orders = {e: _order(size, self.training.seed, e) for e in {spot // size for spot in spots}}
        chosen = [self.learnt[orders[spot // size][spot % size]] for spot in spots]
        return _grouped(chosen, self.training.edits)


def train(
    model: LanguageModel,
    method: Method,
    training: Training,
    requests: Sequence[EditRequest],
    work: Path | None = None,
    team: Team = ALONE,
    report: Report | None = None,
) -> Asset:
    """Train the network of `method` for `model`, or go on where `work` has it.

    Args:
        model: the unedited model; it is never written.
        method: the network's hyperparameters.
        training: the training's hyperparameters.
        requests: the records to learn from; part of them is kept for validation and test.
        work: where checkpoints are kept; None keeps none. Hidden states of the training's rows are
            kept in `hidden` beside it, for every training of this model to use.
        team: this worker's place among several, all of which call this alike.
        report: gets each line of the curve as it is made.

    Returns:
        The state dict of the best network; meta: `method`, `training`, `split` (digest, sizes,
        relations held out), `curve`, `best_step`, `test` (rates on the test part), `code`.

    Raises:
        ConfigError: too few records can be learnt from, or the model has too few blocks.
    """
    folder = work.parent / "hidden" if work else None
    job = prepare(model, method, training, requests, folder, team)
    state, best = _run(job, work, report or (lambda _: None))
    job.network.load_state_dict(best)
    return Asset(
        {name: t.detach().cpu().clone() for name, t in job.network.state_dict().items()},
        {
            "method": asdict(method),  # type: ignore[call-overload]
            "training": asdict(training),
            "model": model.id,
            "split": job.split,
            "best_step": state.best_step,
            "test": _scores(job, job.test),
            "curve": state.curve,
            "code": __version__,
        },
    )


def prepare(
    model: LanguageModel,
    method: Method,
    training: Training,
    requests: Sequence[EditRequest],
    folder: Path | None = None,
    team: Team = ALONE,
) -> Job:
    """Split and tokenise the records, make the untrained network; `folder` keeps hidden states.

    Raises:
        ConfigError: as `train` does.
    """
    split = divide(_some(requests, training.records, training.seed), training.share, training.seed)
    parts = {
        part: examples(model, _shuffled(records, training.seed))[0]
        for part, records in split.parts.items()
    }
    _check_enough(parts, training)
    place = place_of(method, model)
    below = Below(model, place.first, folder)
    below.plan(example.rows for part in parts.values() for example in part)
    return Job(
        training=training,
        network=make_network(method, model, training.seed),
        modules=place.modules,
        outer=Outer(below),
        learnt=parts["train"],
        validation=_grouped(parts["validation"][: training.validate], training.edits),
        test=_grouped(parts["test"][: TESTED * training.validate], training.edits),
        split=_described(split, parts),
        team=team,
    )


def _run(job: Job, work: Path | None, report: Report) -> tuple[State, dict[str, Tensor]]:
    """All steps that are left; the last state and the best weights."""
    training, network = job.training, job.network
    adam = torch.optim.Adam(network.parameters(), lr=training.rate)
    kept = checkpoint.restore(work, network, adam) if work else None
    if kept is None:
        observe(job)
        state = State(multiplier=training.locality, margin=training.margin or 0.0)
        best = _copied(network)
        state.best_score = _validate(job, state, Tally(), report)
    else:
        state, best = kept
        for line in state.curve:
            report(line)
    seen = Tally()
    while state.step < training.steps and state.stale < training.patience:
        seen += step_once(job, state, adam)
        if state.step % training.every and state.step < training.steps:
            continue
        score = _validate(job, state, seen, report)
        seen = Tally()
        if score < state.best_score:
            state.best_score, state.best_step, state.stale = score, state.step, 0
            best = _copied(network)
        else:
            state.stale += 1
        if work and job.team.rank == 0:
            checkpoint.save(work, state, network, adam, best)
    return state, best


def observe(job: Job) -> None:
    """Show the network the plain gradients of the first training edits; all workers do the same."""
    chosen = job.learnt[: job.training.observe]
    size = max(1, job.training.batch)
    for start in range(0, len(chosen), size):
        groups = [[example] for example in chosen[start : start + size]]
        job.network.observe(job.signal(groups).factors())
    job.network.settle()


def step_once(job: Job, state: State, adam: torch.optim.Adam) -> Tally:
    """One step; what the step's edits came to."""
    training, network = job.training, job.network
    state.step += 1
    weight = training.locality if training.margin is None else state.multiplier
    mine = job.team.share(job.groups_at(state.step))
    network.zero_grad(set_to_none=False)
    tally = Tally()
    if mine:
        proposals = network.propose(job.signal(mine))
        leaves = {name: proposal.leaf() for name, proposal in proposals.items()}
        tally = job.outer.add_gradients(leaves, mine, weight, 1 / training.models)
        _hand_back(proposals, leaves)
    tally = _share_gradients(job, tally)
    nn.utils.clip_grad_norm_(network.parameters(), training.clip)
    for group in adam.param_groups:
        group["lr"] = training.rate_at(state.step)
    adam.step()
    if training.margin is not None:
        over = tally.kept / training.models - state.margin
        state.multiplier = max(0.0, state.multiplier + training.multiplier_rate * over)
    return tally


def _hand_back(proposals: Proposals, leaves: Proposals) -> None:
    """Continue the backward pass from the changes into the network."""
    pairs = [
        (tensor, leaf.grad)
        for name, proposal in proposals.items()
        for tensor, leaf in zip(proposal.tensors, leaves[name].tensors, strict=True)
        if tensor.requires_grad and leaf.grad is not None
    ]
    torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])


def _share_gradients(job: Job, tally: Tally) -> Tally:
    """Gradients and losses summed over the team."""
    if job.team.size == 1:
        return tally
    gradients = [
        p.grad if p.grad is not None else torch.zeros_like(p) for p in job.network.parameters()
    ]
    flat = torch.cat([g.flatten() for g in gradients])
    job.team.total(flat)
    for parameter, total in zip(
        job.network.parameters(), flat.split([g.numel() for g in gradients]), strict=True
    ):
        parameter.grad = total.view_as(parameter)
    return _sum_tally(job, tally)


def _sum_tally(job: Job, tally: Tally) -> Tally:
    axes = ("reliability", "paraphrase", "portability", "locality")
    own = [tally.wanted, tally.kept]
    own += [tally.right.get(a, 0.0) for a in axes] + [float(tally.lines.get(a, 0)) for a in axes]
    flat = torch.tensor(own, dtype=torch.float64)
    job.team.total(flat)
    wanted, kept, *rest = flat.tolist()
    lines = {a: round(n) for a, n in zip(axes, rest[4:], strict=True) if n}
    return Tally(wanted, kept, {a: rest[axes.index(a)] for a in lines}, lines)


@torch.no_grad()
def _evaluate(job: Job, groups: Groups) -> Tally:
    """What the groups come to under the network as it is, over all workers."""
    total = Tally()
    mine = job.team.share(groups)
    for start in range(0, len(mine), job.training.models):
        some = mine[start : start + job.training.models]
        total += job.outer.tally(job.network.propose(job.signal(some)), some)
    return total if job.team.size == 1 else _sum_tally(job, total)


def _scores(job: Job, groups: Groups) -> dict[str, float]:
    tally, n = _evaluate(job, groups), max(1, len(groups))
    return {"wanted": tally.wanted / n, "kept": tally.kept / n, **tally.rates()}


def _validate(job: Job, state: State, seen: Tally, report: Report) -> float:
    """Add a line to the curve; the validation score, the lower the better.

    It is the wanted loss plus c times the share of kept answers that changed: the divergence
    itself has a heavy tail, and one answer that flips would outweigh a hundred that stay.
    """
    training = job.training
    scores = _scores(job, job.validation)
    score = scores["wanted"] + training.locality * (1 - scores["locality"])
    last = state.curve[-1]["step"] if state.curve else 0
    taken = max(1.0, (state.step - last) * training.models)
    line = {
        "step": state.step,
        "rate": training.rate_at(state.step) if state.step else 0.0,
        "train_wanted": seen.wanted / taken,
        "train_kept": seen.kept / taken,
        "multiplier": state.multiplier,
        "validation_loss": scores["wanted"] + training.locality * scores["kept"],
        "validation_score": score,
        **{f"validation_{name}": value for name, value in scores.items()},
    }
    state.curve.append(line)
    if training.margin is not None and scores.get("reliability", 0.0) > MARGIN_HITS:
        state.margin = max(MARGIN_FLOOR, state.margin * MARGIN_FALL)
    report(line)
    return score


def _order(size: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch)
    order: list[int] = torch.randperm(size, generator=generator).tolist()
    return order


def _shuffled(records: Sequence[EditRequest], seed: int) -> list[EditRequest]:
    """So that the first of them stand for all."""
    return [records[i] for i in _order(len(records), seed, -2)]


def _grouped(chosen: Sequence[Example], size: int) -> list[list[Example]]:
    return [list(chosen[start : start + size]) for start in range(0, len(chosen), size)]


def _some(requests: Sequence[EditRequest], most: int, seed: int) -> list[EditRequest]:
    """At most `most` of them, drawn so that no relation is cut while another has more of them."""
    order, seen, turn = _order(len(requests), seed, -1), Counter[str](), {}
    for index in order:
        relation = requests[index].relation
        turn[index] = seen[relation]
        seen[relation] += 1
    return [requests[i] for i in sorted(order, key=lambda i: turn[i])[:most]]


def _copied(network: Network) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in network.state_dict().items()}


def _check_enough(parts: Mapping[Part, Sequence[Example]], training: Training) -> None:
    if len(parts["train"]) < training.batch or not parts["validation"] or not parts["test"]:
        sizes = ", ".join(f"{len(found)} for {part}" for part, found in parts.items())
        raise ConfigError(
            f"training takes {training.batch} edits a step, and of these records there are {sizes}: "
            "each needs a paraphrase or portability probe and a locality probe; name a larger "
            "source, or lower training.models"
        )


def _described(split: Split, parts: Mapping[Part, Sequence[Example]]) -> dict[str, Any]:
    return {
        "digest": split.digest,
        "records": {part: len(found) for part, found in split.parts.items()},
        "learnable": {part: len(found) for part, found in parts.items()},
        "held_out": {part: list(names) for part, names in split.held_out.items()},
    }
