import pytest
import torch

from editsweep.model.divergence import divergences
from editsweep.model.patch import LowRank, Patch
from editsweep.model.tiny import TINY_TYPES, tiny_model

PROMPTS = ["The capital of France is", "Rome", "She lives in London"]


def strong(model, size):
    name = model.mlp_out(1)
    d_out, d_in = model.weight(name).shape
    return Patch({name: LowRank(torch.ones(1, d_in), size * torch.ones(1, d_out).cumsum(1))})


def by_hand(model, prompt, edited, prefix=""):
    """KL(unedited || edited) from two whole forwards of the model's own class."""

    def logp(text):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        return torch.log_softmax(model.module(ids).logits[0, -1].double(), -1)

    before = logp(prompt)
    weight = model.weight(model.mlp_out(1))
    kept = weight.detach().clone()
    if edited is not None:
        change = edited.adds[model.mlp_out(1)]
        weight.data += change.delta()
    after = logp(prefix + prompt)
    weight.data.copy_(kept)
    return float((before.exp() * (before - after)).sum())


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_it_is_the_divergence_of_two_whole_forwards(model_type):
    model = tiny_model(model_type)
    one, two = strong(model, 0.05), strong(model, 0.5)
    found = divergences(model, [*PROMPTS, *PROMPTS], [1, 0, 1, 2, 2, 0], [None, one, two])
    patch_of = [one, None, one, two, two, None]
    with torch.no_grad():
        wanted = [
            by_hand(model, p, patch)
            for p, patch in zip([*PROMPTS, *PROMPTS], patch_of, strict=True)
        ]
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert found[1] == found[5] == 0
    assert min(found[i] for i in (0, 2, 3, 4)) > 0


def test_what_is_put_before_the_prompt_counts():
    model = tiny_model()
    patch = Patch(prefix="Paris is in Italy.\n")
    (found,) = divergences(model, ["Rome is in"], [0], [patch])
    with torch.no_grad():
        assert found == pytest.approx(by_hand(model, "Rome is in", None, patch.prefix), rel=1e-3)


def test_nothing_to_compare():
    assert divergences(tiny_model(), [], [], [None]) == []
    assert divergences(tiny_model(), ["Rome"], [0], [None]) == [0.0]
