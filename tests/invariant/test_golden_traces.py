"""The same scores as the published causal tracing on the small real model."""

import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.model.facts import Fact, subject_deviation
from editsweep.model.restoring import KINDS, Runs, Site
from editsweep.model.tracing import TraceSettings, last_subject_token, subject_noise, trace

THEIRS = {"state": "state", "mlp": "mlp", "attention": "attn"}
PUBLISHED = TraceSettings()
FEW = (0, 9, 21, 29)


@pytest.fixture(scope="module")
def told(goldens):
    return goldens["causal_trace"]


@pytest.fixture(scope="module")
def facts(goldens, smollm2, told):
    asked = {fact["id"]: fact for fact in goldens["facts"]}
    return {
        name: Fact.of(smollm2, EditRequest.of(asked[name]["subject"], asked[name]["prompt"], "x"))
        for name in told["traces"]
    }


def near(mine, theirs):
    assert float((mine - torch.tensor(theirs)).abs().max()) < 1e-3


def test_tokens_and_noise(smollm2, told, facts):
    sigma = subject_deviation(smollm2, told["subjects_for_std"])
    assert sigma == pytest.approx(told["std_32_subjects"], rel=1e-6)
    for name, fact in facts.items():
        theirs = told["traces"][name]
        assert list(fact.ids) == theirs["input_ids"]
        assert [fact.span.start, fact.span.stop] == theirs["subject_range"]


@pytest.mark.slow
def test_the_table_of_one_fact_at_some_layers(smollm2, told, facts):
    fact, theirs = facts["F01"], told["traces"]["F01"]
    noise = subject_noise(smollm2, fact, PUBLISHED, told["std_32_subjects"])
    runs = Runs.of(smollm2, [fact], [noise])
    assert smollm2.tokenizer.decode(runs.answer) == theirs["answer"]
    assert float(runs.low[0]) == pytest.approx(theirs["low_score"], abs=1e-3)
    assert float(runs.high[0]) == pytest.approx(theirs["high_score"], abs=1e-3)
    sites = [Site(0, token) for token in range(len(fact.ids))]
    for kind in KINDS:
        for layer in FEW:
            window = PUBLISHED.layers(kind, layer, smollm2.depth)
            scores = runs.restored(kind, window, sites)
            near(scores, [row[layer] for row in theirs[THEIRS[kind]]["scores"]])


@pytest.mark.slow
def test_the_rows_of_the_last_subject_token(smollm2, told, facts):
    names = [name for name in facts if name != "F01"]
    traces = trace(
        smollm2,
        [facts[name] for name in names],
        PUBLISHED,
        told["std_32_subjects"],
        last_subject_token,
    )
    for name, made in zip(names, traces, strict=True):
        theirs = told["traces"][name]
        assert made.low == pytest.approx(theirs["low_score"], abs=1e-3)
        assert made.clean == pytest.approx(theirs["high_score"], abs=1e-3)
        for kind in KINDS:
            near(made.restored[kind], theirs[THEIRS[kind]]["scores"])


@pytest.mark.slow
def test_a_late_site_of_each_fact(smollm2, told, facts):
    for name, fact in facts.items():
        noise = subject_noise(smollm2, fact, PUBLISHED, told["std_32_subjects"])
        runs = Runs.of(smollm2, [fact], [noise])
        for site in told["traces"][name]["sites"]:
            if site["layer"] < 15:
                continue
            for kind in KINDS:
                window = PUBLISHED.layers(kind, site["layer"], smollm2.depth)
                score = runs.restored(kind, window, [Site(0, site["token"])])
                near(score[0], site[THEIRS[kind]])
