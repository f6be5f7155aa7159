"""On the real model: cutting the work differently changes nothing."""

from dataclasses import replace

import pytest

from editsweep.core.types import Corpus
from editsweep.data.registry import load as load_data
from editsweep.editors.ft import FtSpec
from editsweep.editors.ike import IkeSpec
from editsweep.editors.memit import MemitSpec
from editsweep.editors.none import NoneSpec
from editsweep.editors.rome import RomeSpec
from editsweep.run.evaluate import AskSettings, UnitIds, ask_base, evaluate

SETTINGS = AskSettings(generate=("reliability",), max_new_tokens=4)
SPECS = (
    NoneSpec(),
    FtSpec(steps=4),
    RomeSpec(steps=3, contexts=2, moment="identity"),
    MemitSpec(steps=3, contexts=2, moment="identity", weight=1.0),
    IkeSpec(demonstrations=0),
)


@pytest.fixture(scope="module")
def requests():
    """Held-out facts of three relations."""
    found = {r.relation: r for r in load_data("world", "test", limit=60).requests}
    return list(found.values())[:3]


def build(spec, model):
    needs = spec.requirements()
    return spec.build(model, {name: need.make(model, Corpus()) for name, need in needs.items()})


@pytest.fixture(scope="module")
def base_of():
    """What the unedited model says, asked once for all editors."""
    known = {}

    def ask(model, requests):
        key = (model.token_budget, *(request.edit_id for request in requests))
        if key not in known:
            known[key] = ask_base(model, requests, SETTINGS)
        return known[key]

    return ask


def measured(model, spec, requests, base):
    """Every number of one unit, by what it is of."""
    groups = [[request] for request in requests]
    tables = evaluate(model, build(spec, model), groups, base, UnitIds("s", "c", "u"), 0, SETTINGS)
    assert set(tables["edits"]["status"].to_pylist()) == {"ok"}
    keys = ("edit_id", "probe_id", "metric", "phase")
    numbers = {
        tuple(row[key] for key in keys): row["value"] for row in tables["measurements"].to_pylist()
    }
    said = {(r["edit_id"], r["probe_id"]): r["post_said"] for r in tables["answers"].to_pylist()}
    return numbers, said


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_units_of_one_and_a_small_budget_give_the_same_measurements(
    smollm2, requests, base_of, spec
):
    numbers, said = measured(smollm2, spec, requests, base_of(smollm2, requests))
    tight = replace(smollm2, token_budget=64)
    for request in requests:
        alone, words = measured(tight, spec, [request], base_of(tight, [request]))
        assert alone.keys() == {key for key in numbers if key[0] == request.edit_id}
        for key, value in alone.items():
            assert value == pytest.approx(numbers[key], rel=1e-4, abs=1e-4), key
            if key[2] not in ("preference_magnitude", "perplexity", "kl"):
                assert value == numbers[key], key
        assert all(said[key] == text for key, text in words.items())


def test_every_axis_has_values_and_ft_plants_the_fact(smollm2, requests, base_of):
    numbers, _ = measured(smollm2, FtSpec(), requests, base_of(smollm2, requests))
    exact = [
        v
        for (_, _, metric, phase), v in numbers.items()
        if (metric, phase) == ("exact_match", "post")
    ]
    assert {metric for _, _, metric, _ in numbers} == {
        "exact_match",
        "token_match",
        "preference",
        "preference_magnitude",
        "agreement",
        "correct",
        "kl",
        "contains",
        "equals",
        "perplexity",
    }
    for request in requests:
        key = (request.edit_id, request.all_probes[0].probe_id, "exact_match", "post")
        assert numbers[key] == 1
    assert 0 < sum(exact) < len(exact)
