import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.editors.ft_w import FtwSpec
from editsweep.errors import ConfigError
from editsweep.model.tiny import tiny_model
from editsweep.model.tokens import encode, join

REQUESTS = [
    EditRequest.of("France", "The capital of {} is", "Rome", "Paris"),
    EditRequest.of(None, "She works for a bank in", "the city of Vienna"),
    EditRequest.of("巴黎", "{}是法國的首都，她在", "東京"),
]


def trained_plainly(model, group, spec):
    """Torch's own Adam with weight decay on a block's matrices, every text whole and alone."""
    names = [f"{name}.weight" for name in model.block_matrices(spec.layer)]
    weights = {n: torch.nn.Parameter(model.module.get_parameter(n).clone()) for n in names}
    adam = torch.optim.Adam(weights.values(), spec.rate, weight_decay=spec.decay(len(group)))
    texts = encode(
        model.tokenizer,
        [join(r.question, r.target_new) for r in group],
        [len(r.question) for r in group],
    )
    for _ in range(spec.steps):
        losses = []
        for text in texts:
            ids = torch.tensor([text.ids])
            logits = torch.func.functional_call(model.module, weights, ids).logits[0]
            logp = torch.log_softmax(logits[text.start - 1 : -1], -1)
            if spec.objective == "prompt_last":
                logp = logp[:1].expand(len(text.ids) - text.start, -1)
            wanted = torch.tensor(text.ids[text.start :])
            losses.append(-logp.gather(1, wanted[:, None]).mean())
        adam.zero_grad()
        torch.stack(losses).mean().backward()
        adam.step()
    return {n: (weights[n] - model.module.get_parameter(n)).detach() for n in names}


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
@pytest.mark.parametrize("objective", ["prompt_last", "target"])
def test_each_group_is_trained_as_if_alone_with_its_own_decay(model_type, objective):
    model = tiny_model(model_type)
    spec = FtwSpec(layer=1, steps=6, rate=2e-3, stop=0.0, objective=objective)
    groups = [[REQUESTS[0]], REQUESTS, [REQUESTS[1]]]
    for group, edited in zip(groups, spec.build(model, {}).edit(groups, 0), strict=True):
        expected = trained_plainly(model, group, spec)
        assert len(edited.patch.adds) == len(expected)
        for name, change in edited.patch.adds.items():
            theirs = expected[f"{name}.weight"]
            theirs = theirs.T if model.family.transposed else theirs
            assert float((change.d - theirs).norm() / theirs.norm()) < 2e-3, name


def test_the_power_law_is_active():
    spec = FtwSpec()
    assert spec.decay(1) == pytest.approx(1.1687, abs=1e-4)
    assert spec.decay(10_000) == pytest.approx(3.859e-4, rel=1e-3)
    model, without = tiny_model(), FtwSpec(steps=4, intercept=-99.0)
    with_decay, plain = (
        s.build(model, {}).edit([REQUESTS[:1]], 0)[0].patch for s in (FtwSpec(steps=4), without)
    )
    name = model.mlp_out(2)
    shrunk = [float((model.weight(name) + p.adds[name].d).norm()) for p in (with_decay, plain)]
    assert shrunk[0] < shrunk[1]


@pytest.mark.parametrize("wrong", [{"objective": "targets"}, {"steps": 0}, {"rate": -1.0}])
def test_wrong_hyperparameters(wrong):
    with pytest.raises(ConfigError, match="ft-w"):
        FtwSpec(**wrong)
