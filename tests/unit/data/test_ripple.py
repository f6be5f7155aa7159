"""RippleEdits: made-up records in the published structure."""

import copy
import json
from pathlib import Path

import pytest

from editsweep.core.types import Probe
from editsweep.data.own_format import read_edits, write_edits
from editsweep.data.registry import load, show
from editsweep.errors import DataError

FILE = Path(__file__).parents[2] / "data" / "rippleedits.json"
RECORDS = json.loads(FILE.read_text(encoding="utf-8"))


def known(prompt, *answers):
    return Probe.of("condition", prompt, answers)


MOTHER = "The name of the mother of Ada Fictive is"
BEA = known(MOTHER, "Bea Fictive", "B. Fictive")
CONTINENT = known("The name of the continent which Peru is part of is", "South America")
MONEY = known("The name of the currency in Peru is", "sol", "PEN")
CHILD = known("The name of the mother of Cy Fictive is", "Ada Fictive")
CITIZEN = "The name of the country of citizenship of"
WANTED = [
    CONTINENT,
    Probe.of(
        "portability",
        "The name of the continent which Ada Fictive is a citizen of is",
        ["South America"],
        facet="logical",
        needs=[CONTINENT.probe_id],
    ),
    Probe.of(
        "portability",
        "The name of the language that Ada Fictive votes in is",
        ["Spanish", "Quechua", "Runasimi"],
        facet="logical",
        needs=[CONTINENT.probe_id],
    ),
    Probe.of(
        "portability",
        f"{CITIZEN} Ada F. is",
        ["Peru", "Republic of Peru"],
        ["Japan"],
        "alias",
    ),
    MONEY,
    Probe.of(
        "portability",
        "The name of the currency in the country of citizenship of Ada Fictive is",
        ["sol", "PEN"],
        facet="compositionality_1",
        needs=[MONEY.probe_id],
    ),
    CHILD,
    BEA,
    Probe.of(
        "portability",
        f"{CITIZEN} the mother of Cy Fictive is",
        ["Peru"],
        facet="compositionality_2",
        needs=[CHILD.probe_id, BEA.probe_id],
    ),
    Probe.of(
        "locality",
        MOTHER,
        ["Bea Fictive", "B. Fictive"],
        facet="relation_specificity",
        needs=[BEA.probe_id],
    ),
    Probe.of(
        "locality",
        f"{CITIZEN} Ada Fictive, which is not Peru, is",
        ["Japan"],
        ["Peru"],
        "forgetfulness",
    ),
]


def read(tmp_path, *records, **options):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(list(records)), encoding="utf-8")
    data = load("rippleedits", path=path, **options)
    return data.requests, [fault.kind for fault in data.faults]


def test_the_six_criteria_and_their_conditions(tmp_path):
    (request,), faults = read(tmp_path, RECORDS[0])
    assert (request.subject, request.prompt) == (
        "Ada Fictive",
        "The name of the country of citizenship of {} is",
    )
    assert (request.target_new, request.target_true) == ("Peru", "Japan")
    assert request.relation == "COUNTRY_OF_CITIZENSHIP"

    assert list(request.probes) == WANTED
    assert faults == ["several_queries", "answer_is_target"]


def test_subject_and_target_are_told_apart_by_what_else_is_asked(tmp_path):
    (request,), faults = read(tmp_path, RECORDS[1])
    assert (request.subject, request.target_new) == ("This is Made Up", "Bea Fictive")
    assert request.target_true == "Dee Fictive"
    assert {p.facet for p in request.probes} == {"", "alias", "relation_specificity"}
    assert faults == ["condition_is_test"]


def test_a_recent_fact_has_no_old_target(tmp_path):
    (request,), faults = read(tmp_path, RECORDS[2])
    assert (request.subject, request.prompt) == ("Lake Fictive", "{} is followed by")
    assert (request.target_new, request.target_true) == ("Washington, D.C.", None)
    assert request.probes == ()
    assert faults == ["no_answers"]


def edited(**changes):
    record = copy.deepcopy(RECORDS[1])
    record["edit"] |= changes
    return record


@pytest.mark.parametrize(
    ("relation", "sentence", "subject", "target"),
    [
        ("SIBLING", "The names of the siblings of Ada are Bea.", "Ada", "Bea"),
        ("PLACE_OF_BIRTH", "The place of birth of Ada is Lima.", "Ada", "Lima"),
        ("NUMBER_OF_CHILDREN", "The number of children Ada has is 3.", "Ada", "3"),
        ("AWARD_RECEIVED", "The name of the award Ada won is It.", "Ada", "It"),
        ("FOLLOWS", "Monday follows Sunday.", "Monday", "Sunday"),
        ("COUNTRY", "The name of the country which Lima is associated with is X.", "Lima", "X"),
    ],
)
def test_relations_are_phrased_in_several_ways(tmp_path, relation, sentence, subject, target):
    record = edited(relation=relation, prompt=sentence, previous_fact=None)
    (request,), _ = read(tmp_path, record)
    assert (request.subject, request.target_new) == (subject, target)
    assert f"{request.question} {target}." == sentence


def test_another_wording_is_kept_without_a_subject(tmp_path):
    (request,), faults = read(tmp_path, edited(prompt="Ada's boss is Bea.", previous_fact=None))
    assert (request.subject, request.question, request.target_new) == (None, "Ada's boss is", "Bea")
    assert "no_subject" in faults


@pytest.mark.parametrize(
    ("record", "kind", "field"),
    [
        ({**RECORDS[1], "edit": None}, "wrong_type", "edit"),
        ({"Forgetfulness": [], "example_type": "recent"}, "missing", "edit"),
        (edited(prompt="Ada sings."), "no_target", "edit.prompt"),
        ({**RECORDS[1], "Forgetfulness": {}}, "wrong_type", "Forgetfulness"),
        (
            {**RECORDS[1], "Forgetfulness": [{"test_queries": ["x"]}]},
            "wrong_type",
            r"Forgetfulness\[0\].test_queries\[0\]",
        ),
    ],
)
def test_without_an_edit(tmp_path, record, kind, field):
    with pytest.raises(DataError, match=rf"{kind} 1(.|\n)*: {field}: "):
        read(tmp_path, record)


def test_the_whole_file_and_back(tmp_path):
    card = show("rippleedits", FILE)
    assert card["records"] == 3
    assert card["probes"]["condition"] == {"": 5}
    requests = load("rippleedits", path=FILE).requests
    write_edits(requests, tmp_path / "own.jsonl")
    assert read_edits(tmp_path / "own.jsonl").requests == requests
