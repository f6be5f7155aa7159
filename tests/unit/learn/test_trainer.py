"""The trainer: gradients through the patch, data order, checkpoints, several workers."""

import threading
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call

from editsweep.editors.enn import EnnMethod
from editsweep.editors.ke import KeMethod
from editsweep.editors.malmen import MalmenMethod
from editsweep.editors.mend import MendMethod
from editsweep.errors import ConfigError
from editsweep.learn import trainer
from editsweep.learn.checkpoint import NAME
from editsweep.learn.examples import WANTED
from editsweep.learn.team import ALONE, Team
from editsweep.learn.trainer import train
from editsweep.learn.training import Training
from editsweep.model.tiny import tiny_model
from editsweep.testing import tiny_requests

METHODS = {
    "mend": MendMethod(blocks=2, rank=8, rate=0.05),
    "ke": KeMethod(blocks=2, hidden=8, code=16, bottleneck=8),
    "malmen": MalmenMethod(blocks=2, rank=8, rate=0.05),
    "enn": EnnMethod(blocks=2, steps=2, rate=0.5),
    "enn second order": EnnMethod(blocks=2, steps=2, rate=0.5, second_order=True),
}
SHORT = Training(
    steps=6, models=4, every=2, validate=8, observe=8, records=90, share=0.2, rate=1e-2, warmup=2
)


def job_of(method, training):
    job = trainer.prepare(tiny_model(), method, training, tiny_requests(40))
    trainer.observe(job)
    network = job.network
    with torch.no_grad():  # away from the start, where many gradients vanish
        for parameter in network.parameters():
            draw = torch.Generator().manual_seed(parameter.numel())
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.02)
    return job


def loss_in_one_graph(job, groups, locality):
    """The outer loss with the changed weights themselves put into the model, nothing decoupled."""
    model, proposals = job.outer.model, job.network.propose(job.signal(groups))
    total = 0.0
    for g, group in enumerate(groups):
        weights = {}
        for name, proposal in proposals.items():
            change = proposal.b[g].T @ proposal.a[g]
            change = change if proposal.shared is None else change + proposal.shared
            weights[f"{name}.weight"] = model.weight(name) + change
        for example in group:
            for line in (*example.wanted, *example.kept):
                ids, at = torch.tensor([line.ids]), list(line.at)
                kwargs = {"input_ids": ids, "use_cache": False}
                after = functional_call(model.module, weights, (), kwargs).logits[0, at]
                after = after.log_softmax(-1)
                if line.axis in WANTED:
                    loss = -after.gather(1, torch.tensor(line.tokens)[:, None]).mean()
                else:
                    before = model.module(ids, use_cache=False).logits[0, at].log_softmax(-1)
                    loss = locality * (before.exp() * (before - after)).sum(-1).mean()
                total = total + line.weight / len(group) * loss
    return total / job.training.models


@pytest.mark.parametrize("name", METHODS)
def test_gradients_through_the_patch_are_those_of_one_graph(name):
    training = replace(SHORT, models=2, edits=3 if name == "malmen" else 1, locality=0.5)
    job = job_of(METHODS[name], training)
    groups = job.groups_at(1)
    proposals = job.network.propose(job.signal(groups))
    leaves = {n: p.leaf() for n, p in proposals.items()}
    job.outer.add_gradients(leaves, groups, 0.5, 1 / training.models)
    trainer._hand_back(proposals, leaves)
    parameters = dict(job.network.named_parameters())
    whole = torch.autograd.grad(
        loss_in_one_graph(job, groups, 0.5), list(parameters.values()), allow_unused=True
    )
    scale = max(float(g.norm()) for g in whole if g is not None)
    assert scale > 0
    for (parameter_name, parameter), g in zip(parameters.items(), whole, strict=True):
        if g is None:
            assert parameter.grad is None
            continue
        apart = float((parameter.grad - g).norm())
        assert apart <= 1e-3 * float(g.norm()) + 1e-5 * scale, parameter_name


def test_orders_count_when_the_gradient_of_a_gradient_counts():
    def gradient(second_order):
        method = replace(METHODS["enn"], second_order=second_order)
        job = job_of(method, replace(SHORT, models=2))
        trainer.step_once(job, trainer.State(), torch.optim.Adam(job.network.parameters()))
        return job.network.start[0].grad

    first, second = gradient(False), gradient(True)
    assert (first - second).norm() > 1e-3 * first.norm()


def test_every_epoch_takes_each_edit_once_whatever_came_before():
    job = job_of(METHODS["mend"], SHORT)
    size, batch = len(job.learnt), SHORT.batch
    epochs = [e for step in range(1, size + 1) for (e,) in job.groups_at(step)]
    assert len(epochs) == size * batch
    first, second = ([id(e) for e in epochs[k * size : (k + 1) * size]] for k in (0, 1))
    assert len(set(first)) == len(set(second)) == size
    assert first != second
    assert job.groups_at(3) == job.groups_at(3)


def trained(work=None, report=None, name="mend", **changes):
    return train(
        tiny_model(),
        METHODS[name],
        replace(SHORT, **changes),
        tiny_requests(90),
        work,
        ALONE,
        report,
    )


def same(p, q):
    assert p.meta == q.meta
    assert p.tensors.keys() == q.tensors.keys()
    for name, tensor in p.tensors.items():
        assert torch.equal(tensor, q.tensors[name]), name


@pytest.mark.parametrize("name", METHODS)
def test_training_lowers_the_validation_loss(name):
    edits = 2 if name == "malmen" else 1
    asset = trained(name=name, steps=20, every=5, edits=edits, models=4 // edits, rate=2e-3)
    curve = asset.meta["curve"]
    losses = [line["validation_loss"] for line in curve]
    scores = [line["validation_score"] for line in curve]
    assert min(losses) < losses[0]
    assert asset.meta["best_step"] == curve[scores.index(min(scores))]["step"]


@pytest.mark.parametrize("stop_at", [2, 4])
def test_interrupted_and_resumed_is_as_undisturbed(tmp_path, stop_at):
    def stop(line):
        if line["step"] > stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, stop)
    assert (tmp_path / NAME).exists()
    seen = []
    resumed = trained(tmp_path, lambda line: seen.append(line["step"]))
    assert seen == [0, 2, 4, 6]
    same(resumed, trained())


def test_a_damaged_checkpoint_is_started_anew(tmp_path):
    (tmp_path / NAME).write_bytes(b"not a checkpoint")
    same(trained(tmp_path), trained())


def test_the_multiplier_follows_the_divergence_and_the_margin_narrows():
    asset = trained(name="ke", margin=0.0, locality=1.0, steps=8)
    multipliers = [line["multiplier"] for line in asset.meta["curve"]]
    assert multipliers == sorted(multipliers)
    assert multipliers[-1] > multipliers[0]
    asset = trained(name="ke", margin=1e6, multiplier_rate=1.0)
    assert asset.meta["curve"][-1]["multiplier"] == 0


def test_it_ends_when_it_gets_no_better():
    asset = trained(rate=1e-12, steps=50, every=1, patience=3)
    assert asset.meta["curve"][-1]["step"] < 50


class Pair:
    """Two workers in threads that add up tensors."""

    def __init__(self):
        self.barrier, self.sent = threading.Barrier(2), {}

    def team(self, rank):
        def total(tensor):
            self.sent[rank] = tensor.clone()
            self.barrier.wait(60)
            both = self.sent[0] + self.sent[1]
            self.barrier.wait(60)
            tensor.copy_(both)

        return Team(rank, 2, total)


@pytest.mark.parametrize("name", ["mend", "ke", "malmen"])
def test_two_workers_come_to_what_one_does(name):
    edits = 2 if name == "malmen" else 1
    training = replace(SHORT, edits=edits, margin=1e-3 if name == "ke" else None, models=3)
    pair, results = Pair(), {}

    def work(rank):
        results[rank] = train(
            tiny_model(), METHODS[name], training, tiny_requests(90), None, pair.team(rank)
        )

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = train(tiny_model(), METHODS[name], training, tiny_requests(90))
    same(results[0], results[1])
    for one, two in zip(alone.meta["curve"], results[0].meta["curve"], strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


def test_too_few_records_are_told():
    with pytest.raises(ConfigError, match=r"8 edits a step.*for train"):
        train(tiny_model(), METHODS["mend"], Training(), tiny_requests(5))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"rate": 0.0}, {"share": 0.7}, {"margin": -1.0}])
def test_a_training_that_cannot_run_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Training(**wrong)
