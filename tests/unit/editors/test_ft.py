import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.editors import tuned
from editsweep.editors.ft import FtSpec
from editsweep.errors import ConfigError
from editsweep.model.asking import AskSettings, Question, ask
from editsweep.model.load import load
from editsweep.model.patch import difference
from editsweep.model.tiny import tiny_model
from editsweep.model.tokens import encode, join

REQUESTS = [
    EditRequest.of("France", "The capital of {} is", "Rome", "Paris"),
    EditRequest.of(None, "She works for a bank in", "the city of Vienna"),
    EditRequest.of("巴黎", "{}是法國的首都，她在", "東京"),
]


def trained_plainly(model, group, spec, layer):
    """Torch's own Adam on the weight itself, every text whole and alone."""
    weight = torch.nn.Parameter(model.weight(model.mlp_out(layer)).clone())
    original = weight.detach().clone()
    adam = torch.optim.Adam([weight], lr=spec.rate)
    module = model.module.get_submodule(model.mlp_out(layer))
    texts = encode(
        model.tokenizer,
        [join(r.question, r.target_new) for r in group],
        [len(r.question) for r in group],
    )
    for _ in range(spec.steps):
        losses = []
        for text in texts:
            logits = torch.func.functional_call(
                model.module, {f"{model.mlp_out(layer)}.weight": weight}, torch.tensor([text.ids])
            ).logits[0]
            logp = torch.log_softmax(logits, -1)
            logp = logp[text.start - 1 : -1]
            wanted = torch.tensor(text.ids[text.start :])
            losses.append(-logp.gather(1, wanted[:, None]).mean())
        loss = torch.stack(losses).mean()
        if loss < spec.stop:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        if spec.clamp is not None:
            with torch.no_grad():
                weight.clamp_(original - spec.clamp, original + spec.clamp)
    assert module.weight is not weight
    return weight.detach() - original


@pytest.mark.parametrize(
    "spec",
    [
        FtSpec(layer=1, steps=8, rate=5e-3),
        FtSpec(layer=1, steps=8, rate=5e-3, clamp=1e-2),
        FtSpec(layer=2, steps=20, rate=5e-2, stop=2.0),
    ],
)
def test_each_group_is_trained_as_if_alone_on_the_weights(spec):
    model = tiny_model()
    groups = [[REQUESTS[0]], [REQUESTS[1]], REQUESTS, [REQUESTS[2]]]
    for group, edited in zip(groups, spec.build(model, {}).edit(groups, 0), strict=True):
        expected = trained_plainly(model, group, spec, spec.layer)
        change = edited.patch.adds[model.mlp_out(spec.layer)].d
        assert float((change - expected).norm() / expected.norm()) < 1e-3


def test_small_budgets_and_little_memory_give_the_same(monkeypatch):
    model, spec = tiny_model(), FtSpec(steps=6, rate=1e-2, stop=1.0)
    groups = [[r] for r in REQUESTS] + [REQUESTS]
    wide = spec.build(model, {}).edit(groups, 0)
    object.__setattr__(model, "token_budget", 8)
    monkeypatch.setattr(tuned, "MEMORY_BYTES", 1)
    for one, other in zip(wide, spec.build(model, {}).edit(groups, 0), strict=True):
        assert one.steps == other.steps
        assert difference(one.patch, other.patch) < 1e-4


def test_it_stops_when_the_loss_is_low():
    edited = (
        FtSpec(layer=1, steps=60, rate=3e-2, stop=2.5)
        .build(tiny_model(), {})
        .edit([[r] for r in REQUESTS], 0)
    )
    assert all(e.loss < 2.5 and e.steps < 60 for e in edited)


def test_a_target_without_tokens_is_a_failure_of_its_own():
    bad = EditRequest.of(None, "She works for", "")
    good, failed = FtSpec(steps=1).build(tiny_model(), {}).edit([[REQUESTS[0]], [bad]], 0)
    assert good.patch is not None
    assert failed.error.kind == "no_tokens"


def test_divergence_is_a_failure():
    (edited,) = (
        FtSpec(layer=1, rate=float("inf"), steps=3).build(tiny_model(), {}).edit([REQUESTS[:1]], 0)
    )
    assert edited.patch is None
    assert edited.error.kind == "not_finite"


def test_a_model_in_half_precision_is_trained_in_full():
    model = load("tiny-llama", dtype="bfloat16")
    (edited,) = FtSpec(layer=1, steps=3).build(model, {}).edit([REQUESTS[:1]], 0)
    assert edited.patch.adds[model.mlp_out(1)].d.dtype == torch.float32
    question = Question(REQUESTS[0].all_probes[0])
    before, after = (
        ask(model, [question], [p], AskSettings(()))[0].scored[0].nll for p in (None, edited.patch)
    )
    assert after != before


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"rate": -1.0}, {"clamp": 0.0}])
def test_wrong_hyperparameters(wrong):
    with pytest.raises(ConfigError, match="ft"):
        FtSpec(**wrong)
