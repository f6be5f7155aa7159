import pytest
import torch

from editsweep.core.types import Corpus, EditRequest
from editsweep.editors.ultraedit import Running, UltraEditSpec, WarmStatistics, features
from editsweep.errors import ConfigError
from editsweep.learn.examples import encode_edit
from editsweep.model.hooks import reading
from editsweep.model.patch import difference
from editsweep.model.tiny import tiny_model
from editsweep.testing import tiny_requests

REQUESTS = [
    EditRequest.of("France", "The capital of {} is", "Rome", "Paris"),
    EditRequest.of(None, "She works for a bank in", "the city of Vienna"),
    EditRequest.of("巴黎", "{}是法國的首都，她在", "東京"),
]


def plain_features(model, name, request):
    """Input and output gradient of one module where a target's token is predicted, by autograd."""
    edit, seen = encode_edit(model, request), {}
    embedded = model.module.get_input_embeddings()(torch.tensor([edit.ids])).requires_grad_()
    with reading(model, name, lambda x, y: seen.update(x=x, y=y)):
        logits = model.module(inputs_embeds=embedded).logits[0]
    logp = torch.log_softmax(logits[edit.start - 1 : -1], -1)
    wanted = torch.tensor(edit.ids[edit.start :])
    loss = -logp.gather(1, wanted[:, None]).mean()
    (delta,) = torch.autograd.grad(loss, seen["y"])
    span = slice(edit.start - 1, len(edit.ids) - 1)
    return seen["x"][0, span].detach(), delta[0, span]


def test_the_patch_is_the_closed_form_written_out():
    model = tiny_model()
    name, spec = model.mlp_matrices(1)[0], UltraEditSpec(rate=1e-3, warm=0)
    editor = UltraEditSpec(rate=1e-3, warm=0, modules=(name,)).build(model, {})
    (edited,) = editor.edit([REQUESTS], 0)
    parts = [plain_features(model, name, r) for r in REQUESTS]
    h, g = (torch.cat(column).double() for column in zip(*parts, strict=True))
    hat = [(t - t.mean(0)) / t.std(0) for t in (h, g)]
    values = -spec.rate * hat[0].square().sum(1, keepdim=True) * hat[1]
    change = torch.linalg.solve(h.T @ h + torch.eye(h.shape[1]).double(), h.T @ values).T
    mine = edited.patch.adds[name].delta().double()
    assert float((mine - change).norm() / change.norm()) < 1e-3


def test_tokens_merged_in_parts_are_as_seen_at_once():
    tokens = torch.randn(13, 4, generator=torch.Generator().manual_seed(0)) * 5 + 100
    tokens[:, 3] = 2.0
    empty = Running.empty(4, torch.device("cpu"))
    parts = empty.seen(tokens[:1]).seen(tokens[1:6]).seen(tokens[6:])
    whole = empty.seen(tokens)
    for name, tensor in whole.tensors.items():
        torch.testing.assert_close(parts.tensors[name], tensor)
    made = parts.normalised(tokens)
    torch.testing.assert_close(made[:, :3].std(0), torch.ones(3))
    assert not made[:, 3].any()


def test_features_do_not_depend_on_how_many_share_a_pass(monkeypatch):
    model = tiny_model("gpt2")
    edits = [encode_edit(model, r) for r in REQUESTS]
    together = features(model, model.mlp_matrices(1), edits)
    monkeypatch.setattr("editsweep.editors.ultraedit.PASS", 1)
    for one, other in zip(together, features(model, model.mlp_matrices(1), edits), strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-6)


def test_a_sequence_remembers_what_it_has_seen():
    model, spec = tiny_model(), UltraEditSpec(rate=1e-3, warm=0)
    editor = spec.build(model, {})
    _, state = editor.edit_next(REQUESTS[:2], {}, 0)
    after, _ = editor.edit_next(REQUESTS[2:], state, 0)
    fresh, _ = editor.edit_next(REQUESTS[2:], {}, 0)
    assert difference(after.patch, fresh.patch) > 0.1
    counts = [float(t) for name, t in state.items() if name.endswith("/count")]
    assert len(set(counts)) == 1
    failed, same = editor.edit_next([EditRequest.of(None, "She", "")], state, 0)
    assert failed.error is not None
    assert same is state


def test_a_single_edit_needs_statistics_from_elsewhere():
    model = tiny_model()
    one = EditRequest.of("France", "The capital of {} is", "Rome")
    (alone,) = UltraEditSpec(rate=1e-3, warm=0).build(model, {}).edit([[one]], 0)
    need = UltraEditSpec(rate=1e-3).requirements()["statistics"]
    asset = need.make(model, Corpus(tuple(tiny_requests(20)), ()))
    assert asset.meta == {"edits": 20}
    (warm,) = UltraEditSpec(rate=1e-3).build(model, {"statistics": asset}).edit([[one]], 0)
    assert warm.patch.norm > 0
    assert len(encode_edit(model, one).ids) - encode_edit(model, one).start > 1 or (
        alone.patch.norm == 0
    )


def test_too_little_to_warm_with_is_told():
    with pytest.raises(ConfigError, match="warm: 0"):
        WarmStatistics("few", 100, ()).make(tiny_model(), Corpus(tuple(REQUESTS[:1]), ()))


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"warm": 1}, {"warm": -1}])
def test_wrong_hyperparameters(wrong):
    with pytest.raises(ConfigError, match="ultraedit"):
        UltraEditSpec(**wrong)


def test_an_unknown_module_is_told():
    with pytest.raises(ConfigError, match=r"no 'mlp\.gate' to edit; block 0 has"):
        UltraEditSpec(modules=("mlp.gate",), warm=0).build(tiny_model(), {})
