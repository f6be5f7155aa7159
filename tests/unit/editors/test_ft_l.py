"""FT-L: everything it shares with FT-M is tested there; its objective and its box here."""

import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.editors import ft_l
from editsweep.editors.ft_l import FtlSpec
from editsweep.errors import ConfigError
from editsweep.model.tiny import tiny_model
from editsweep.model.tokens import encode, join

REQUESTS = [
    EditRequest.of("France", "The capital of {} is", "Rome", "Paris"),
    EditRequest.of(None, "She works for a bank in", "the city of Vienna"),
    EditRequest.of("巴黎", "{}是法國的首都，她在", "東京"),
]


def trained_plainly(model, group, spec):
    """Torch's own Adam and clamp on the weight itself, every text whole and alone."""
    name = f"{model.mlp_out(spec.layer)}.weight"
    weight = torch.nn.Parameter(model.module.get_parameter(name).clone())
    original = weight.detach().clone()
    adam = torch.optim.Adam([weight], lr=spec.rate)
    texts = encode(
        model.tokenizer,
        [join(r.question, r.target_new) for r in group],
        [len(r.question) for r in group],
    )
    for _ in range(spec.steps):
        losses = []
        for text in texts:
            ids = torch.tensor([text.ids[: text.start]])
            logits = torch.func.functional_call(model.module, {name: weight}, ids).logits[0, -1]
            logp = torch.log_softmax(logits, -1)
            losses.append(-logp[torch.tensor(text.ids[text.start :])].mean())
        loss = torch.stack(losses).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            weight.clamp_(original - spec.clamp, original + spec.clamp)
    return weight.detach() - original


def test_all_targets_are_read_at_the_prompts_end_and_the_weights_stay_near():
    model, spec = tiny_model(), FtlSpec(layer=1, steps=8, rate=5e-3, stop=0.0, clamp=1e-2)
    groups = [[REQUESTS[0]], [REQUESTS[1]], REQUESTS, [REQUESTS[2]]]
    for group, edited in zip(groups, spec.build(model, {}).edit(groups, 0), strict=True):
        change = edited.patch.adds[model.mlp_out(1)].d
        expected = trained_plainly(model, group, spec)
        assert float((change - expected).norm() / expected.norm()) < 1e-3
        assert float(change.abs().max()) == pytest.approx(1e-2)


def test_the_published_width_is_taken_by_family_and_depth(monkeypatch):
    monkeypatch.setitem(ft_l.EPSILON, ("gpt2", 3), 0.125)
    assert FtlSpec().build(tiny_model("gpt2"), {}).clamp == 0.125
    assert FtlSpec().build(tiny_model(), {}).clamp == ft_l.ELSEWHERE
    assert FtlSpec(clamp=0.5).build(tiny_model("gpt2"), {}).clamp == 0.5


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"rate": -1.0}, {"clamp": 0.0}])
def test_wrong_hyperparameters(wrong):
    with pytest.raises(ConfigError, match="ft-l"):
        FtlSpec(**wrong)
