import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.editors.adalora import AdaLoraSpec, Allocation
from editsweep.errors import ConfigError
from editsweep.model.patch import difference
from editsweep.model.tiny import tiny_model

REQUESTS = [
    EditRequest.of("France", "The capital of {} is", "Rome", "Paris"),
    EditRequest.of(None, "She works for a bank in", "the city of Vienna"),
    EditRequest.of("巴黎", "{}是法國的首都，她在", "東京"),
]


def allocation(groups=1, modules=("m", "n"), rank=3, **values):
    spec = AdaLoraSpec(first_rank=rank, last_rank=1, steps=10, warmup=0, settle=0.5, **values)
    generator = torch.Generator().manual_seed(0)
    parameters = {}
    for name in modules:
        parameters[f"{name}.a"] = torch.randn(groups, rank, 5, generator=generator)
        parameters[f"{name}.b"] = torch.randn(groups, rank, 4, generator=generator)
        parameters[f"{name}.lambda"] = torch.randn(groups, rank, generator=generator)
    zeros = [{n: torch.zeros_like(p) for n, p in parameters.items()} for _ in range(2)]
    return Allocation(spec, modules, *zeros), parameters


def test_the_penalty_is_that_of_autograd():
    rule, parameters = allocation(groups=2)
    leaves = {n: p.clone().requires_grad_() for n, p in parameters.items()}
    norms = [
        torch.linalg.matrix_norm(leaves[f"{m}.{part}"] @ leaves[f"{m}.{part}"].mT - torch.eye(3))
        for m in "mn"
        for part in "ab"
    ]
    (0.5 * torch.stack(norms).mean(0).sum()).backward()
    gradients = {n: torch.zeros_like(p) for n, p in parameters.items()}
    rule.before(parameters, gradients)
    for name, gradient in gradients.items():
        wanted = leaves[name].grad
        torch.testing.assert_close(
            gradient, torch.zeros_like(gradient) if wanted is None else wanted
        )


def test_the_budget_falls_along_a_cubic_between_two_plateaus():
    spec = AdaLoraSpec(first_rank=12, last_rank=8, steps=100, warmup=0.1, settle=0.3)
    assert [spec.budget(step, 10) for step in (1, 10, 70, 100)] == [120, 120, 80, 80]
    assert spec.budget(40, 10) == 80 + int(40 * 0.5**3)


def test_the_least_important_triplets_of_all_modules_go():
    rule, parameters = allocation()
    gradients = {n: torch.zeros_like(p) for n, p in parameters.items()}
    for name, row in (("m", 0), ("n", 2)):
        gradients[f"{name}.lambda"][0, row] = 100.0
    rule.after(parameters, gradients, 5)  # the budget is one triplet a module, two in all
    for name, row in (("m", 0), ("n", 2)):
        assert parameters[f"{name}.lambda"][0].nonzero()[:, 0].tolist() == [row]


def test_importance_is_sensitivity_times_uncertainty():
    rule, parameters = allocation(smoothing=0.5)
    gradients = {n: torch.ones_like(p) for n, p in parameters.items()}
    mean = spread = 0.0
    for step in (1, 2):
        now = (parameters["m.a"] * gradients["m.a"]).abs()
        mean = 0.5 * mean + 0.5 * now
        spread = 0.5 * spread + 0.5 * (now - mean).abs()
        rule.after(parameters, gradients, step)
    torch.testing.assert_close(rule.sensitivity["m.a"], mean)
    torch.testing.assert_close(rule.uncertainty["m.a"], spread)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_an_edit_ends_within_its_budget_and_its_loss_falls(model_type):
    model, spec = tiny_model(model_type), AdaLoraSpec(first_rank=4, last_rank=2, steps=10)
    editor = spec.build(model, {})
    groups = [[r] for r in REQUESTS] + [REQUESTS]
    (first,) = AdaLoraSpec(first_rank=4, last_rank=2, steps=1).build(model, {}).edit(groups[:1], 0)
    together = editor.edit(groups, 0)
    assert together[0].loss < first.loss
    for group, one in zip(groups, together, strict=True):
        ranks = sum(change.rank for change in one.patch.adds.values())
        assert ranks == 2 * len(editor.modules)
        assert difference(one.patch, editor.edit([group], 0)[0].patch) < 1e-4


@pytest.mark.parametrize(
    "wrong",
    [
        {"last_rank": 13},
        {"last_rank": 0},
        {"steps": 0},
        {"warmup": 0.7, "settle": 0.3},
        {"smoothing": 1.0},
        {"penalty": -1.0},
    ],
)
def test_wrong_hyperparameters(wrong):
    with pytest.raises(ConfigError, match="adalora"):
        AdaLoraSpec(**wrong)
