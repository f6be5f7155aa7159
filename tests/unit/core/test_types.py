import dataclasses
import math
import pickle

import pytest

from editsweep.core.types import EditRequest, Probe, Regime, Scored, only_axes
from editsweep.errors import ConfigError

PARAPHRASE = Probe.of("paraphrase", "France's capital is", ["Berlin"], ["Paris"])
LOCALITY = Probe.of("locality", "The capital of Spain is", ["Madrid"], facet="same relation")
REQUEST = EditRequest.of(
    "France", "The capital of {} is", "Berlin", "Paris", [PARAPHRASE, LOCALITY], "capital"
)


def test_known_ids_of_content():
    assert Probe.of("locality", "q", ["a"]).probe_id == "479e42e9e6f37e45"
    assert EditRequest.of("s", "{} is", "t").edit_id == "7f4fafc01435c4d53a26bebbfe897f4b"


@pytest.mark.parametrize(
    "other",
    [
        Probe.of("portability", "France's capital is", ["Berlin"], ["Paris"]),
        Probe.of("paraphrase", "France's capital is ", ["Berlin"], ["Paris"]),
        Probe.of("paraphrase", "France's capital is", ["Berlin", "Paris"]),
        Probe.of("paraphrase", "France's capital is", ["Berlin"], ["Paris"], facet="x"),
    ],
)
def test_other_content_is_another_probe(other):
    assert other.probe_id != PARAPHRASE.probe_id


def test_iterables_become_tuples():
    probe = Probe.of("locality", "q", (a for a in "ab"), ["c"])
    assert (probe.answers, probe.unwanted) == (("a", "b"), ("c",))


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "Spain"},
        {"prompt": "{} is governed from"},
        {"target_new": "Rome"},
        {"target_true": None},
        {"probes": [PARAPHRASE]},
    ],
)
def test_other_content_is_another_edit(change):
    same = {
        "subject": "France",
        "prompt": "The capital of {} is",
        "target_new": "Berlin",
        "target_true": "Paris",
        "probes": [PARAPHRASE, LOCALITY],
    }
    assert EditRequest.of(**same).edit_id == REQUEST.edit_id
    assert EditRequest.of(**{**same, **change}).edit_id != REQUEST.edit_id


def test_the_question_has_the_subject_in_place():
    assert REQUEST.question == "The capital of France is"
    assert EditRequest.of(None, "Two and two is", "five").question == "Two and two is"


def test_a_subject_with_braces_is_put_in_as_it_is():
    assert EditRequest.of("{x}", "What is {}?", "y").question == "What is {x}?"


def test_every_edit_is_asked_for_what_it_plants():
    first, *others = REQUEST.all_probes
    assert (first.axis, first.prompt) == ("reliability", "The capital of France is")
    assert (first.answers, first.unwanted) == (("Berlin",), ("Paris",))
    assert tuple(others) == REQUEST.probes
    assert EditRequest.of("s", "{} is", "t").all_probes[0].unwanted == ()


def test_only_axes_keeps_the_edit_and_drops_questions():
    kept = only_axes(REQUEST, ["locality"])
    assert kept.probes == (LOCALITY,)
    assert kept.edit_id == REQUEST.edit_id
    assert [p.axis for p in only_axes(REQUEST, []).all_probes] == ["reliability"]


@pytest.mark.parametrize("value", [PARAPHRASE, REQUEST, Regime("batch", 4)])
def test_values_are_frozen_hashable_and_picklable(value):
    back = pickle.loads(pickle.dumps(value))
    assert back == value
    assert hash(back) == hash(value)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "other")


def test_scored():
    said = Scored("answer", "a b", (3, 4), (-0.5, -1.5), (3, 4))
    assert said.exact
    assert math.isclose(said.nll, 1.0)
    assert not dataclasses.replace(said, argmax=(3, 5)).exact


@pytest.mark.parametrize(
    ("value", "expected", "spelling"),
    [
        ("single", Regime(), "single"),
        ({"batch": 2}, Regime("batch", 2), "batch:2"),
        ({"batch": 10_000}, Regime("batch", 10_000), "batch:10000"),
        ("sequential", Regime("sequential", 1, 20, 100), "sequential:1/20"),
        ({"sequential": {}}, Regime("sequential", 1, 20, 100), "sequential:1/20"),
        (
            {"sequential": {"size": 4, "every": 8, "sample": 0}},
            Regime("sequential", 4, 8, 0),
            "sequential:4/8 sample=0",
        ),
    ],
)
def test_regime_is_parsed(value, expected, spelling):
    assert Regime.parse(value) == expected
    assert str(expected) == spelling
    assert Regime.parse(expected.plain) == Regime.parse(expected) == expected


@pytest.mark.parametrize(
    "value",
    [
        "batch",
        "",
        {"batch": 1},
        {"batch": 10_001},
        {"batch": True},
        {"batch": "4"},
        {"batch": 2, "every": 1},
        {},
        None,
    ],
)
def test_a_regime_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match="write `single`, `batch: n` with n from 2 to 10000"):
        Regime.parse(value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"size": 3, "every": 20}, "every 20 is not a multiple of size 3"),
        ({"size": 0}, "size 0: write a whole number of 1 or more"),
        ({"every": True}, "every True"),
        ({"sample": -1}, "sample -1: write a whole number of 0 or more"),
        ({"evry": 2}, "its keys are size, every, sample"),
        (5, "its keys are"),
    ],
)
def test_a_sequence_that_is_none_is_refused(value, told):
    with pytest.raises(ConfigError, match=told):
        Regime.parse({"sequential": value})


def test_groups_keep_order_and_lose_nothing():
    requests = [EditRequest.of(str(i), "{} is", "t") for i in range(7)]
    for size in (1, 2, 7, 9):
        groups = Regime("batch", size).groups(requests)
        assert [r for group in groups for r in group] == requests
        assert all(len(group) == size for group in groups[:-1])
    assert Regime().groups([]) == []
