from dataclasses import replace

import pytest
import torch

from editsweep.core.types import Corpus, EditRequest
from editsweep.editors.rome import RomeSpec
from editsweep.errors import ConfigError
from editsweep.locate.facts import fact_rows
from editsweep.model.asking import AskSettings, Question, ask
from editsweep.model.asset import Asset
from editsweep.model.hooks import reading
from editsweep.model.load import load
from editsweep.model.patch import difference
from editsweep.model.solve import Metric
from editsweep.model.tiny import tiny_model

TEMPLATES = ("{}", "Because of this, the. {}", "You were there. {}")
REQUESTS = [
    EditRequest.of("France", "The capital of {} is", "Rome", "Paris"),
    EditRequest.of("The Eiffel Tower", "{} is located in the city of", "London", "Paris"),
    EditRequest.of("巴黎", "{}是法國的首都，她在", "東京"),
]


def moment(model, layer):
    d_in = model.weight(model.mlp_out(layer)).shape[1]
    keys = torch.randn(5 * d_in, d_in, generator=torch.Generator().manual_seed(0)).double()
    return keys.T @ keys / len(keys) + torch.diag(torch.linspace(0, 2, d_in).double())


SPEC = RomeSpec(layer=1)
IDENTITY = replace(SPEC, moment="identity")


def editor(spec=SPEC, model=None):
    model = model or tiny_model()
    made = Asset({"moment.1": moment(model, 1)}, {"layers": [1]})
    needs = {"contexts": Asset(meta={"templates": list(TEMPLATES[1:])}), "moment": made}
    return spec.build(model, {name: needs[name] for name in spec.requirements()})


def rows(rome, request):
    return fact_rows(rome.model, rome.templates, request)


@pytest.mark.parametrize("spec", [SPEC, IDENTITY])
def test_the_edited_weight_takes_the_key_to_the_value(spec):
    rome = editor(spec)
    for request in REQUESTS:
        solved = rome.solve({0: rows(rome, request)})[0]
        row = rows(rome, request)[0].row
        keys, name = [], rome.model.mlp_out(1)
        with torch.no_grad(), reading(rome.model, name, lambda x, _, k=keys: k.append(x)):
            rome.model.module(torch.tensor([row.ids]))
        key = keys[0][0, row.start]
        weight = rome.model.weight(rome.model.mlp_out(1))
        reached = (weight + torch.outer(solved.v, solved.u)) @ key
        value = weight @ key + solved.delta
        assert float((reached - value).norm() / value.norm()) < 1e-5


def test_the_direction_solves_for_the_second_moment():
    rome = editor()
    c = moment(rome.model, 1)
    c += 1e-2 * c.diagonal().mean() * torch.eye(len(c))
    key = torch.randn(2, len(c), generator=torch.Generator().manual_seed(2))
    u = rome.metric.directions(key).float()
    back = (c.float() @ u.T).T
    torch.testing.assert_close(torch.cosine_similarity(back, key), torch.ones(2))


def test_the_edit_makes_the_targets_likelier():
    rome, gains = editor(IDENTITY), []
    for request, edited in zip(REQUESTS, rome.edit([[r] for r in REQUESTS], 0), strict=True):
        before, after = ask(
            rome.model,
            [Question(request.all_probes[0], i) for i in range(2)],
            [None, edited.patch],
            AskSettings(generate=()),
        )
        gains.append(before.scored[0].nll - after.scored[0].nll)
        assert edited.patch.rank == 1
    assert sum(gains) > 0.3


def test_a_finished_fact_leaves_the_batch_and_disturbs_nobody():
    rome = editor(replace(SPEC, stop=6.25))
    together = rome.edit([[r] for r in REQUESTS], 0)
    assert len({e.steps for e in together}) > 1
    for request, edited in zip(REQUESTS, together, strict=True):
        (alone,) = rome.edit([[request]], 0)
        assert alone.steps == edited.steps
        assert difference(alone.patch, edited.patch) < 1e-4


def test_small_budgets_give_the_same_patches():
    rome = editor()
    wide = rome.edit([[r] for r in REQUESTS], 0)
    object.__setattr__(rome.model, "token_budget", 8)
    for one, other in zip(wide, rome.edit([[r] for r in REQUESTS], 0), strict=True):
        assert difference(one.patch, other.patch) < 1e-4


def test_an_edit_without_subject_is_a_failure_with_its_reason():
    rome = editor()
    plain = EditRequest.of(None, "The capital is", "Rome")
    good, bad = rome.edit([[REQUESTS[0]], [plain]], 0)
    assert good.patch is not None
    assert bad.patch is None
    assert bad.error.kind == "no_subject"


def test_numbers_that_are_not_finite_are_a_failure():
    rome = replace(editor(), metric=Metric(torch.full((64, 64), float("nan")).double()))
    (edited,) = rome.edit([[REQUESTS[0]]], 0)
    assert edited.patch is None
    assert edited.error.kind == "not_finite"


def test_a_model_in_half_precision_is_optimised_in_full():
    model = load("tiny-llama", dtype="bfloat16")
    rome = editor(IDENTITY, model)
    (edited,) = rome.edit([[REQUESTS[0]]], 0)
    (change,) = edited.patch.adds.values()
    assert change.a.dtype == change.b.dtype == torch.float32
    question = Question(REQUESTS[0].all_probes[0])
    before, after = (
        ask(model, [question], [p], AskSettings(()))[0].scored[0].nll for p in (None, edited.patch)
    )
    assert after != before


def test_the_identity_needs_no_moment_and_a_moment_is_asked_for():
    assert set(RomeSpec(moment="identity").requirements()) == {"contexts"}
    assert set(RomeSpec().requirements()) == {"contexts", "moment"}


def test_build_from_assets():
    model = tiny_model()
    spec = RomeSpec(contexts=2)
    assets = {
        "contexts": spec.requirements()["contexts"].make(model, Corpus()),
        "moment": Asset({"moment.0": moment(model, 0)}, {"layers": [0]}),
    }
    rome = spec.build(model, assets)
    assert rome.layer == 0
    assert len(rome.templates) == 3
    assert rome.templates[0] == "{}"


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="blocks 0 to 2"):
        RomeSpec(layer=3, moment="identity").build(tiny_model(), {"contexts": Asset()})


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"rate": 0.0}, {"clamp": -1.0}, {"contexts": -1}])
def test_wrong_hyperparameters(wrong):
    with pytest.raises(ConfigError, match="rome"):
        RomeSpec(**wrong)
