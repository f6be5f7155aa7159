"""Spreading on a tiny model, against the same edits written into the weights."""

import pytest
import torch

from editsweep.editors.base import edit_next
from editsweep.editors.spreading import Value
from editsweep.errors import ConfigError
from editsweep.locate.facts import subject_rows
from editsweep.locate.site import Halves
from editsweep.locate.spread import spread, subject_keys
from editsweep.model.asset import Asset
from editsweep.model.hooks import reading
from editsweep.model.merge import merged
from editsweep.model.patch import Patch, difference
from editsweep.model.solve import Metric, least_squares
from editsweep.model.tiny import TINY_TYPES, tiny_model
from editsweep.testing import tiny_requests

TEMPLATES = ("{}", "Because of this, the. {}", "You were there. {}")


def jobs_of(model, *sizes):
    requests = iter(tiny_requests(sum(sizes)))
    return [[subject_rows(model, TEMPLATES, next(requests)) for _ in range(n)] for n in sizes]


def wanted(model, jobs, seed=0):
    dice = torch.Generator().manual_seed(seed)
    width = model.module.config.hidden_size
    return [torch.randn(len(job), width, generator=dice) for job in jobs]


def stream(model, layer, row):
    """What block `layer` hands on at the last token of `row`, by a plain forward."""
    seen = []
    with (
        torch.no_grad(),
        reading(model, f"{model.family.blocks}.{layer}", lambda _, y: seen.append(y)),
    ):
        model.module(torch.tensor([row]))
    return (seen[0][0] if isinstance(seen[0], tuple) else seen[0])[0, -1]


def interpolate(layer, keys):
    return least_squares(keys, Metric(), 1e-9)


def spread_over(model, jobs, values, layers, solve=interpolate):
    block = f"{model.family.blocks}.{layers[-1]}"
    return spread(model, jobs, values, layers, block, solve, lambda left: 1 / left)


@pytest.mark.parametrize("model_type", TINY_TYPES)
def test_keys_are_those_of_the_model_as_it_is_by_now(model_type):
    model = tiny_model(model_type)
    jobs = jobs_of(model, 1, 2)
    dice = torch.Generator().manual_seed(1)
    name = model.mlp_out(0)
    from editsweep.model.patch import Dense

    patch = Patch({name: Dense(torch.randn(model.weight(name).shape, generator=dice))})
    mine = subject_keys(model, jobs, [Patch(), patch], 1)
    seen = []
    with merged(model, patch), reading(model, model.mlp_out(1), lambda x, _: seen.append(x)):
        for row in jobs[1][1]:
            model.module(torch.tensor([row]))
    first, *others = (x[0, -1] for x in seen)
    torch.testing.assert_close(
        mine[1][1], (first + torch.stack(others).mean(0)) / 2, atol=1e-5, rtol=1e-4
    )
    assert float((mine[0] - subject_keys(model, jobs[:1], [Patch()], 1)[0]).abs().max()) < 1e-6


def test_the_values_are_reached_in_the_bare_prompt():
    model = tiny_model()
    jobs = [[rows[:1] for rows in job] for job in jobs_of(model, 2)]
    before = [stream(model, 1, rows[0]) for rows in jobs[0]]
    values = [torch.stack(before) + 0.1 * wanted(model, jobs)[0]]
    (patch,) = spread_over(model, jobs, values, (0, 1))
    with merged(model, patch):
        for rows, value in zip(jobs[0], values[0], strict=True):
            torch.testing.assert_close(stream(model, 1, rows[0]), value, atol=1e-3, rtol=1e-3)
    assert set(patch.adds) == {model.mlp_out(0), model.mlp_out(1)}


def test_each_layer_takes_its_share():
    model = tiny_model()
    jobs = jobs_of(model, 1)
    values = [torch.stack([stream(model, 1, jobs[0][0][0])]) + wanted(model, jobs)[0]]
    (patch,) = spread_over(model, jobs, values, (0, 1))
    first = patch.adds[model.mlp_out(0)]
    torch.testing.assert_close(first.b[0], wanted(model, jobs)[0][0] / 2, atol=1e-5, rtol=1e-4)


def test_jobs_do_not_feel_each_other():
    model = tiny_model()
    jobs = jobs_of(model, 1, 3, 2)
    values = wanted(model, jobs)
    together = spread_over(model, jobs, values, (0, 1))
    for job, value, patch in zip(jobs, values, together, strict=True):
        (alone,) = spread_over(model, [job], [value], (0, 1))
        assert difference(alone, patch) < 1e-4
    object.__setattr__(model, "token_budget", 8)
    for wide, narrow in zip(together, spread_over(model, jobs, values, (0, 1)), strict=True):
        assert difference(wide, narrow) < 1e-4


def test_halves_need_a_block_before_them():
    with pytest.raises(ConfigError, match="1 or higher"):
        Halves(0)


def build(name, **params):
    from editsweep.editors import EDITORS

    model = tiny_model()
    spec = EDITORS.load(name)(layers=(0, 1), **params)
    width = model.weight(model.mlp_out(0)).shape[1]
    keys = torch.randn(3 * width, width, generator=torch.Generator().manual_seed(0)).double()
    keys *= torch.logspace(-2, 1, width).double()
    c = keys.T @ keys / len(keys)
    moment = Asset({f"moment.{n}": c for n in (0, 1)}, {"layers": [0, 1]})
    return spec.build(
        model, {"contexts": Asset(meta={"templates": list(TEMPLATES[1:])}), "moment": moment}
    )


@pytest.mark.parametrize(
    ("name", "params"),
    [("alphaedit", {"relative": True}), ("memit", {"accumulate": True, "weight": 10.0})],
)
def test_a_sequence_remembers_its_keys(name, params):
    editor = build(name, **params)
    requests = tiny_requests(3)
    first, state = edit_next(editor, requests[:2], {}, 0)
    assert set(state) == {"keys.0", "keys.1"}
    rows = [[subject_rows(editor.model, editor.templates, r) for r in requests[:2]]]
    (keys,) = subject_keys(editor.model, rows, [first.patch], 1)
    torch.testing.assert_close(state["keys.1"], keys.double().T @ keys.double())
    with merged(editor.model, first.patch):
        aware, then = edit_next(editor, requests[2:], state, 0)
        blind, _ = edit_next(editor, requests[2:], {}, 0)
        assert difference(aware.patch, blind.patch) > 1e-3
        (moved,) = subject_keys(editor.model, rows, [Patch()], 0)
    # What was remembered is disturbed less than without.
    name = editor.model.mlp_out(0)
    off = [float((p.patch.adds[name].delta() @ moved.T).norm()) for p in (aware, blind)]
    assert off[0] < off[1]
    assert float((then["keys.0"] - state["keys.0"]).norm()) > 0


def test_without_accumulating_memit_remembers_nothing():
    _, state = edit_next(build("memit"), tiny_requests(1), {}, 0)
    assert state == {}


def test_a_batch_leaves_out_what_it_cannot_edit_and_says_why():
    from editsweep.core.types import EditRequest

    editor = build("memit")
    good, bad = tiny_requests(1)[0], EditRequest.of(None, "The capital is", "Rome")
    both, alone, none = editor.edit([[bad, good], [good], [bad]], 0)
    assert both.left_out[0].kind == "no_subject"
    assert difference(both.patch, alone.patch) < 1e-4
    assert none.error.kind == "no_subject"
    assert none.patch is None


def test_a_value_that_is_not_finite_is_a_failure(monkeypatch):
    editor = build("memit")
    lost = Value(torch.full((32,), float("nan")), (1.0,))
    monkeypatch.setattr(type(editor), "values", lambda self, requests: [lost])
    (edited,) = editor.edit([tiny_requests(1)], 0)
    assert edited.patch is None
    assert edited.error.kind == "not_finite"


def test_emmet_of_one_edit_is_the_closed_form_of_rome():
    editor = build("emmet")
    request = tiny_requests(1)[0]
    (value,) = editor.values([request])
    (patch,) = editor.written([[request]], [[value]], {})
    rows = [[subject_rows(editor.model, editor.templates, request)]]
    (key,) = subject_keys(editor.model, rows, [Patch()], 0)
    now = stream(editor.model, 1, rows[0][0][0])
    metric = editor.solve.__closure__  # the very C that the editor was built with
    c = next(cell.cell_contents for cell in metric if isinstance(cell.cell_contents, dict))[0]
    u = c.directions(key)[0].float()
    v = (value.target - now) / 2 / (key[0] @ u)
    torch.testing.assert_close(
        patch.adds[editor.model.mlp_out(0)].delta(), torch.outer(v, u), atol=1e-5, rtol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("memit", {"weight": 0.0}),
        ("pmet", {"weight": -1.0}),
        ("emmet", {"slack": -1.0}),
        ("alphaedit", {"l2": 0.0}),
        ("alphaedit", {"moment": "identity"}),
        ("r-rome", {"key": "median"}),
        ("memit", {"ridge": -1.0}),
    ],
)
def test_wrong_hyperparameters(name, wrong):
    from editsweep.editors import EDITORS

    with pytest.raises(ConfigError, match=name):
        EDITORS.load(name)(**wrong)


def test_a_model_that_uses_every_direction_has_no_null_space():
    with pytest.raises(ConfigError, match="raise `threshold`"):
        build("alphaedit", threshold=1e-9)
