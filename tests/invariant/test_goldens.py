"""The same numbers as the published implementations on the same model, prefixes and C."""

from dataclasses import replace

import pytest
import torch

from editsweep.core.types import Answer, Probe, Scored
from editsweep.editors.ft import FtSpec
from editsweep.editors.ft_l import FtlSpec
from editsweep.editors.rome import RomeSpec
from editsweep.locate.facts import fact_rows
from editsweep.metrics import protocols
from editsweep.model.asking import AskSettings, Question, ask
from editsweep.model.patch import LowRank, Patch
from editsweep.model.solve import Metric

LAYER = 5
SILENT = AskSettings(generate=())


@pytest.fixture(scope="module")
def solved(goldens, smollm2, requests, assets):
    """Every fact of the goldens, optimised once; δ does not depend on C."""
    rome = RomeSpec(layer=LAYER).build(smollm2, assets(LAYER))
    sections = ("C_identity", "C_identity_counterfact_P")
    ids = [i for s in sections for i in goldens["rome"][s]["edits"]]
    identity = replace(rome, metric=Metric())
    return identity.solve({i: fact_rows(smollm2, rome.templates, requests[i]) for i in ids})


def test_the_second_moments(goldens, moments):
    made, count = moments
    assert count == goldens["covariance"]["n_tokens"]
    for layer, c in made.items():
        theirs = goldens["covariance"]["per_layer"][str(layer)]
        assert float(c.norm()) == pytest.approx(theirs["fro_before_ridge"], rel=1e-6)
        assert float(c.diagonal().mean()) == pytest.approx(theirs["mean_diag"], rel=1e-6)


def test_rome_with_the_identity(goldens, solved, near):
    for section in ("C_identity", "C_identity_counterfact_P"):
        for name, theirs in goldens["rome"][section]["edits"].items():
            mine = solved[name]
            assert len(mine.losses) == theirs["steps"], name
            assert mine.losses == pytest.approx(theirs["loss"], abs=1e-4), name
            near(mine.delta, theirs["delta"], 1e-4)
            near(mine.u, theirs["u"], 1e-4)
            near(mine.v, theirs["v"], 1e-4)


def test_rome_with_the_second_moment(goldens, smollm2, requests, assets, near):
    edits = goldens["rome"]["C_cov"]["edits"]
    # δ is tested above and does not depend on C: one step is enough to see u and the denominator.
    rome = RomeSpec(layer=LAYER, steps=1).build(smollm2, assets(LAYER))
    facts = {name: fact_rows(smollm2, rome.templates, requests[name]) for name in edits}
    for name, mine in rome.solve(facts).items():
        near(mine.u, edits[name]["u"], 1e-4)


def test_rome_leaves_the_probability_of_the_published_edit(goldens, smollm2, solved, requests):
    names = list(goldens["rome"]["C_identity"]["edits"])
    patches = [patch_of(smollm2, solved[name]) for name in names]
    questions = [Question(requests[name].all_probes[0], i) for i, name in enumerate(names)]
    for name, answer in zip(names, ask(smollm2, questions, patches, SILENT), strict=True):
        theirs = goldens["rome"]["C_identity"]["edits"][name]["post"]
        mine = torch.tensor(answer.scored[0].logprobs).exp()[0]
        assert float(mine) == pytest.approx(theirs["first_token_prob"], abs=1e-3), name


FT_RUNS = [
    "FT-M_F00",
    "FT-M_F01",
    "FT-M_F04",
    "FT-M_eps5e-4_F00",
    "FT-M_batch8_left_padded",
    "FT-L_prompt_last_eps5e-4_F00",
    "FT-L_prompt_last_eps5e-4_F01",
    "FT-L_prompt_last_eps5e-4_F04",
    "FT-L_prompt_last_unconstrained_F04",
]


@pytest.mark.parametrize("run", FT_RUNS)
def test_ft(goldens, smollm2, requests, run):
    theirs = goldens["ft"]["runs"][run]
    made = {"target_new": FtSpec, "prompt_last": FtlSpec}[theirs["objective"]]
    spec = made(layer=21, clamp=theirs["norm_constraint"] or 1e9)
    group = [requests[name] for name in theirs["order"]]
    (edited,) = spec.build(smollm2, {}).edit([group], 0)
    assert edited.steps == len(theirs["epoch_loss"])
    assert edited.loss == pytest.approx(theirs["epoch_loss"][-1], abs=1e-4)
    assert edited.patch.norm == pytest.approx(theirs["dW"]["fro"], rel=1e-3)
    first = edited.patch.adds[smollm2.mlp_out(21)].delta()[0, :4]
    wanted = torch.tensor(theirs["dW"]["row0_first4"])
    assert float((first - wanted).norm() / wanted.norm()) < 1e-3


def patch_of(model, mine):
    return Patch({model.mlp_out(LAYER): LowRank(mine.u[None], mine.v[None])})


def test_token_match_and_agreement_equal_the_published_metric_code(goldens, smollm2, solved):
    cases = goldens["metrics"]["easyedit"]["easyedit_test_prediction_acc"]
    for name, case in cases.items():
        told = [("reliability", case["rewrite_prompt"], case["target_new"])]
        told += [("paraphrase", case["rephrase_prompt"], case["target_new"])]
        told += [("locality", prompt, answer) for prompt, answer in case["locality"]]
        probes = [Probe.of(axis, prompt, [answer]) for axis, prompt, answer in told]
        patch = patch_of(smollm2, solved[name])
        pre = ask(smollm2, [Question(p) for p in probes], [None], SILENT)
        post = ask(smollm2, [Question(p) for p in probes], [patch], SILENT)
        for phase, answers in (("pre", pre), ("post", post)):
            theirs = case[phase]
            assert [protocols.token_match(answers[0])] == theirs["rewrite_acc"]
            assert [protocols.token_match(answers[1])] == theirs["rephrase_acc"]
            assert [list(a.scored[0].argmax) for a in answers[2:]] == theirs["locality_tokens"]
            assert [protocols.token_match(a) for a in answers[2:]] == pytest.approx(
                theirs["locality_answer_acc"]
            )
        agreed = [protocols.agreement(*pair) for pair in zip(pre[2:], post[2:], strict=True)]
        assert agreed == case["locality_acc_per_prompt"]


def test_preference_equals_the_published_counterfact_code(goldens, smollm2, solved):
    facts = {fact["id"]: fact for fact in goldens["facts"]}
    for name, theirs in goldens["metrics"]["counterfact_memit_code"]["records"].items():
        fact = facts[name]
        new, old = fact["target_new"], fact["target_true"]
        prompt = fact["prompt"].replace("{}", fact["subject"])
        probes = [Probe.of("reliability", prompt, [new], [old])]
        probes += [Probe.of("paraphrase", p, [new], [old]) for p in fact["paraphrase_prompts"]]
        probes += [Probe.of("locality", p, [old], [new]) for p in fact["neighborhood_prompts"]]
        paraphrases = slice(1, 1 + len(fact["paraphrase_prompts"]))
        for phase, patch in (("pre", None), ("post", patch_of(smollm2, solved[name]))):
            answers = ask(smollm2, [Question(p) for p in probes], [patch], SILENT)
            parts = {"E": answers[:1], "P": answers[paraphrases], "N": answers[paraphrases.stop :]}
            for letter, part in parts.items():
                rate = [protocols.preference(a) for a in part]
                size = [protocols.preference_magnitude(a) for a in part]
                exact = [protocols.exact_match(a) for a in part]
                numbers = {"S": rate, "M": size, "A": exact}
                # After the edit the weights themselves are equal to 1e-4 only.
                close = {"S": 1e-6, "A": 1e-6, "M": 1e-6 if phase == "pre" else 1e-4}
                for suffix, values in numbers.items():
                    mean = sum(values) / len(values)
                    wanted = pytest.approx(theirs[phase][letter + suffix], abs=close[suffix])
                    assert mean == wanted, (name, phase, letter + suffix)


@pytest.mark.parametrize("phase", ["pre", "post"])
def test_preference_of_the_published_likelihoods_is_the_published_one(goldens, phase):
    prompts = {"E": "rewrite", "P": "paraphrase", "N": "neighborhood"}
    for name, record in goldens["metrics"]["counterfact_memit_code"]["records"].items():
        theirs = record[phase]
        for letter, kind in prompts.items():
            answers = [nll_answer(one, letter == "N") for one in theirs[f"{kind}_nll"]]
            for suffix, number in (
                ("S", protocols.preference),
                ("M", protocols.preference_magnitude),
            ):
                mean = sum(number(answer) for answer in answers) / len(answers)
                assert mean == pytest.approx(theirs[letter + suffix], abs=1e-6), (name, letter)


def nll_answer(nll, neighbour):
    """An answer with these mean negative log-likelihoods; a neighbour's right one is the old."""
    roles = ("unwanted", "answer") if neighbour else ("answer", "unwanted")
    new, old = (
        Scored(role, "", (0,), (-nll[f"target_{which}"],), (0,))
        for role, which in zip(roles, ("new", "true"), strict=True)
    )
    return Answer("", (new, old))
