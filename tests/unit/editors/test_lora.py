import copy

import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.editors.lora import LoraSpec
from editsweep.errors import ConfigError
from editsweep.model.asking import AskSettings, Question, ask
from editsweep.model.hooks import adding
from editsweep.model.patch import Dense, Patch, difference
from editsweep.model.tiny import tiny_model
from editsweep.model.tokens import encode, join

REQUESTS = [
    EditRequest.of("France", "The capital of {} is", "Rome", "Paris"),
    EditRequest.of(None, "She works for a bank in", "the city of Vienna"),
    EditRequest.of("巴黎", "{}是法國的首都，她在", "東京"),
]


def texts_of(model, group):
    return encode(
        model.tokenizer,
        [join(r.question, r.target_new) for r in group],
        [len(r.question) for r in group],
    )


def mean_loss(module, texts):
    losses = []
    for text in texts:
        logp = torch.log_softmax(module(torch.tensor([text.ids])).logits[0], -1)
        wanted = torch.tensor(text.ids[text.start :])
        losses.append(-logp[text.start - 1 : -1].gather(1, wanted[:, None]).mean())
    return torch.stack(losses).mean()


def trained_plainly(model, group, spec, start):
    """Torch's own Adam on the factors, every text whole and alone."""
    factors = {name: t.clone().requires_grad_() for name, t in start.items()}
    adam = torch.optim.Adam(factors.values(), lr=spec.rate)
    names = [name.removesuffix(".a") for name in factors if name.endswith(".a")]

    def addend(name):
        a, b = factors[f"{name}.a"], factors[f"{name}.b"]
        return lambda x: spec.alpha / spec.rank * (x @ a.T) @ b

    for _ in range(spec.steps):
        with adding(model, {name: addend(name) for name in names}):
            loss = mean_loss(model.module, texts_of(model, group))
        adam.zero_grad()
        loss.backward()
        adam.step()
    scale = spec.alpha / spec.rank
    change = {n: scale * (factors[f"{n}.b"].T @ factors[f"{n}.a"]).detach() for n in names}
    return Patch({n: Dense(d) for n, d in change.items()})


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gpt_neox", "gptj"])
@pytest.mark.parametrize("blocks", [None, 1])
def test_each_group_is_trained_as_if_alone(model_type, blocks):
    model, spec = tiny_model(model_type), LoraSpec(blocks=blocks, steps=5, rank=4)
    editor, groups = spec.build(model, {}), [[REQUESTS[0]], REQUESTS, [REQUESTS[1]]]
    for group, edited in zip(groups, editor.edit(groups, 3), strict=True):
        plain = trained_plainly(model, group, spec, editor.start(group, 3))
        assert difference(edited.patch, plain) < 1e-2
        (short,) = LoraSpec(blocks=blocks, steps=1, rank=4).build(model, {}).edit([group], 3)
        one = trained_plainly(model, group, LoraSpec(steps=1, rank=4), editor.start(group, 3))
        assert difference(short.patch, one) < 1e-2


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_the_factors_are_those_of_the_fields_library():
    peft = pytest.importorskip("peft")
    model, spec = tiny_model(), LoraSpec(steps=3)
    editor = spec.build(model, {})
    start = editor.start(REQUESTS[:1], 0)
    config = peft.LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"])
    theirs = peft.get_peft_model(copy.deepcopy(model.module), config)
    factors = {}
    with torch.no_grad():
        for name in editor.modules:
            layer = theirs.base_model.model.get_submodule(name)
            layer.lora_A["default"].weight.copy_(start[f"{name}.a"])
            factors[name] = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
            assert not layer.lora_B["default"].weight.any()
    adam = torch.optim.Adam([p for p in theirs.parameters() if p.requires_grad], lr=spec.rate)
    for _ in range(spec.steps):
        adam.zero_grad()
        mean_loss(theirs, texts_of(model, REQUESTS[:1])).backward()
        adam.step()
    (edited,) = editor.edit([REQUESTS[:1]], 0)
    change = {n: Dense(4.0 * (b @ a).detach()) for n, (a, b) in factors.items()}
    assert difference(edited.patch, Patch(change)) < 1e-2


def test_neighbours_change_no_bit_of_a_long_training():
    model, spec = tiny_model(), LoraSpec(steps=16, stop=4.0)
    editor, groups = spec.build(model, {}), [[r] for r in REQUESTS] + [REQUESTS]
    together = editor.edit(groups, 0)
    for group, one in zip(groups, together, strict=True):
        (alone,) = editor.edit([group], 0)
        assert alone.steps == one.steps
        assert difference(alone.patch, one.patch) == 0


def test_the_seed_and_the_edit_decide_the_start():
    editor = LoraSpec(steps=1).build(tiny_model(), {})
    name = f"{editor.modules[0]}.a"
    one = editor.start(REQUESTS[:1], 0)[name]
    assert torch.equal(one, editor.start(REQUESTS[:1], 0)[name])
    assert not torch.equal(one, editor.start(REQUESTS[:1], 1)[name])
    assert not torch.equal(one, editor.start(REQUESTS[1:2], 0)[name])
    assert float(one.abs().max()) <= 32**-0.5


def test_the_patch_says_the_target_and_stops_when_told():
    model, spec = tiny_model(), LoraSpec(stop=3.0)
    (edited,) = spec.build(model, {}).edit([REQUESTS[:1]], 0)
    assert edited.loss < 3.0
    assert edited.steps < 70
    (answer,) = ask(model, [Question(REQUESTS[0].all_probes[0])], [edited.patch], AskSettings(()))
    assert answer.scored[0].nll == pytest.approx(edited.loss, abs=1e-3)


def test_divergence_is_a_failure_of_its_own():
    (edited,) = LoraSpec(rate=float("inf"), steps=3).build(tiny_model(), {}).edit([REQUESTS[:1]], 0)
    assert edited.error.kind == "not_finite"


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"steps": 0}, {"rate": -1.0}, {"alpha": 0.0}])
def test_wrong_hyperparameters(wrong):
    with pytest.raises(ConfigError, match="lora"):
        LoraSpec(**wrong)


@pytest.mark.parametrize("blocks", [0, 4])
def test_a_model_with_fewer_blocks(blocks):
    with pytest.raises(ConfigError, match="has 1 to 3"):
        LoraSpec(blocks=blocks).build(tiny_model(), {})
