import dataclasses
import math
import pickle

import pytest

from editsweep.core.types import AXES, EditRequest, Probe, Regime, Scored, only_axes, whole_cases
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


def test_what_says_nothing_leaves_ids_as_they_were():
    assert Probe.of("locality", "q", ["a"], needs=()).probe_id == "479e42e9e6f37e45"
    assert EditRequest.of("s", "{} is", "t", case="").edit_id == "7f4fafc01435c4d53a26bebbfe897f4b"
    assert (
        EditRequest.of("s", "{} is", "t", case="7").edit_id
        != EditRequest.of("s", "{} is", "t", case="8").edit_id
    )
    needing = Probe.of("locality", "q", ["a"], needs=["0"])
    assert len({needing.probe_id, Probe.of("locality", "q", ["a"]).probe_id}) == 2


def test_what_a_kept_question_needs_is_kept_and_never_asked_by_itself():
    known = Probe.of("condition", "The capital of Spain is", ["Madrid"])
    other = Probe.of("condition", "The capital of Peru is", ["Lima"])
    probes = [known, other, Probe.of("locality", "q", ["a"], needs=[known.probe_id])]
    request = EditRequest.of("France", "The capital of {} is", "Berlin", None, probes)
    assert only_axes(request, ["locality"]).probes == (known, probes[2])
    assert only_axes(request, ["paraphrase"]).probes == ()
    assert "condition" not in AXES


def cases(*names):
    return [EditRequest.of(f"s{i}", "{} is", "t", case=name) for i, name in enumerate(names)]


def test_what_belongs_together_is_one_group_of_a_single_regime():
    requests = cases("a", "a", "", "", "b", "c", "c", "a")
    sizes = [len(group) for group in Regime().groups(requests)]
    assert sizes == [2, 1, 1, 1, 2, 1]
    assert [r for group in Regime().groups(requests) for r in group] == requests
    assert [len(group) for group in Regime("batch", 4).groups(requests)] == [4, 4]
    assert {len(group) for group in Regime("sequential", 1, 2).groups(requests)} == {1}


@pytest.mark.parametrize(
    ("limit", "kept"), [(1, 2), (2, 2), (3, 3), (4, 4), (5, 7), (7, 7), (8, 8), (20, 8)]
)
def test_no_limit_cuts_a_case(limit, kept):
    requests = cases("a", "a", "", "", "b", "b", "b", "a")
    assert whole_cases(requests, limit) == requests[:kept]
