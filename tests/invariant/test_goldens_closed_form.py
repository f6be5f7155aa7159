"""Closed forms: the same changes as the published implementations, on the same model, texts and C."""

import pytest
import torch

from editsweep.editors.alphaedit import AlphaEditSpec
from editsweep.editors.base import edit_next
from editsweep.editors.emmet import EmmetSpec
from editsweep.editors.memit import MemitSpec
from editsweep.editors.pmet import PmetSpec
from editsweep.editors.r_rome import RRomeSpec
from editsweep.locate.facts import fact_rows
from editsweep.model.asking import AskSettings, Question, ask
from editsweep.model.merge import merged
from editsweep.model.patch import added

SILENT = AskSettings(generate=())
SEVERAL = range(4, 9)


@pytest.fixture(scope="module")
def searched(smollm2, assets):
    """Values of an editor, each searched once: many runs of the goldens share theirs."""
    kept = {}

    def values(editor, asked):
        key = (editor.site, editor.search)
        known = kept.setdefault(key, {})
        new = [r for r in asked if r.edit_id not in known]
        known |= dict(zip((r.edit_id for r in new), editor.values(new), strict=True))
        return [known[r.edit_id] for r in asked]

    return values


def check_matrices(model, patch, theirs, tolerance=1e-3):
    for layer, matrix in theirs.items():
        mine = patch.adds[model.mlp_out(int(layer))].delta()
        assert float(mine.norm()) == pytest.approx(matrix["fro"], rel=tolerance), layer
        first = torch.tensor(matrix["row0_first4"])
        assert float((mine[0, :4] - first).abs().max()) < tolerance * float(mine.abs().max())


def check_answers(model, patch, requests, facts):
    asked = [Question(requests[name].all_probes[0]) for name in facts]
    answers = ask(model, asked, [patch], SILENT)
    for (name, theirs), answer in zip(facts.items(), answers, strict=True):
        mine = torch.tensor(answer.scored[0].logprobs).exp()[0]
        assert float(mine) == pytest.approx(theirs["post"]["first_token_prob"], abs=1e-3), name


def check_values(values, facts):
    for value, (name, theirs) in zip(values, facts.items(), strict=True):
        first = torch.tensor(theirs["z"]["first8"])
        apart = float((value.target[:8] - first).norm() / first.norm())
        assert apart < 1e-3, name
        if "loss" in theirs:
            assert value.losses == pytest.approx(theirs["loss"], abs=2e-4), name


def r_rome(goldens, model, requests, assets, section, names, **chosen):
    """What is solved for these facts, and what the published implementation made of them."""
    moment = {"C_identity": "identity", "C_cov": "the goldens"}[section]
    editor = RRomeSpec(layer=5, moment=moment, **chosen).build(model, assets(5))
    edits = goldens["r_rome"][section]["edits"]
    facts = {name: fact_rows(model, editor.templates, requests[name]) for name in names or edits}
    return [(mine, edits[name]) for name, mine in editor.solve(facts).items()]


@pytest.mark.parametrize("section", ["C_identity", "C_cov"])
def test_the_direction_of_r_rome(goldens, smollm2, requests, assets, near, section):
    # It does not depend on the search, so one step is enough.
    for mine, theirs in r_rome(goldens, smollm2, requests, assets, section, (), steps=1):
        near(mine.u, theirs["u"], 1e-3)


def test_the_value_of_r_rome(goldens, smollm2, requests, assets, near):
    ((mine, theirs),) = r_rome(goldens, smollm2, requests, assets, "C_cov", ["F00"])
    near(mine.v, theirs["v"], 1e-3)
    assert mine.losses == pytest.approx(theirs["loss"], abs=2e-4)


def memit(run):
    return MemitSpec(layers=tuple(SEVERAL), weight=run["lam"])


def pmet(run):
    return PmetSpec(layers=tuple(SEVERAL), weight=run["lam"])


def alphaedit(run):
    return AlphaEditSpec(layers=tuple(SEVERAL), l2=run["L2"])


def emmet(run):
    return EmmetSpec(layers=(5,), weight=run["lam"], slack=run["emmet_lambda"])


@pytest.mark.parametrize(
    ("spec_of", "run"),
    [
        (memit, "batch_lambda15000"),
        (memit, "batch_lambda150"),
        (memit, "single_F01_lambda15000"),
        (pmet, "batch_lambda15000"),
        (pmet, "batch_lambda150"),
        (alphaedit, "batch_L2_10"),
        (alphaedit, "batch_L2_1"),
        (emmet, "batch_lambda1_emmetlambda0.1"),
        (emmet, "batch_lambda1_emmetlambda0"),
    ],
)
def test_a_batch(goldens, smollm2, requests, assets, searched, spec_of, run):
    theirs = goldens[spec_of.__name__]["runs"][run]
    spec = spec_of(theirs)
    editor = spec.build(smollm2, assets(*spec.layers))
    group = [requests[name] for name in theirs["facts"]]
    values = searched(editor, group)
    check_values(values, theirs["facts"])
    (patch,) = editor.written([group], [values], {})
    check_matrices(smollm2, patch, theirs["dW"])
    check_answers(smollm2, patch, requests, theirs["facts"])


@pytest.mark.slow
def test_alphaedit_in_a_sequence(goldens, smollm2, requests, assets, searched, monkeypatch):
    runs = goldens["alphaedit_sequential"]["runs"]
    editor = AlphaEditSpec(layers=tuple(SEVERAL)).build(smollm2, assets(*SEVERAL))
    first, second = runs["sequential_first_half"], runs["sequential_second_half_on_edited_model"]
    group = [requests[name] for name in first["facts"]]
    with monkeypatch.context() as patched:
        # On the unedited model, as in the batches above.
        values = searched(editor, group)
        patched.setattr(type(editor), "values", lambda *_: values)
        made, state = edit_next(editor, group, {}, 0)
    check_matrices(smollm2, made.patch, first["dW"])
    for layer, norm in first["cache_c_fro"].items():
        assert float(state[f"keys.{layer}"].norm()) == pytest.approx(norm, rel=1e-3)
    with merged(smollm2, made.patch):
        then, state = edit_next(editor, [requests[name] for name in second["facts"]], state, 0)
    check_matrices(smollm2, then.patch, second["dW"], 2e-3)
    for layer, norm in second["cache_c_fro"].items():
        assert float(state[f"keys.{layer}"].norm()) == pytest.approx(norm, rel=1e-3)
    both = added(made.patch, then.patch)
    after = {name: {"post": post} for name, post in second["after_both"].items()}
    check_answers(smollm2, both, requests, {**after, **second["facts"]})
