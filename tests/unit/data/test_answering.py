"""QAEdit, UnKE and WikiBigEdit: records of our own making in their published structure."""

import json

import pytest

from editsweep.core.types import EditRequest, Probe
from editsweep.data.registry import load
from editsweep.errors import DataError

QAEDIT = {
    "id": 7,
    "source": "NQ",
    "prompt": "in which country is lyon?",
    "target": "Japan *",
    "subject": "lyon",
    "rephrase": "Which country has the city of Lyon?",
    "locality": [
        {"loc": "who sang the last song", "loc_ans": "Jo Doe"},
        {"loc": "when was the bridge built", "loc_ans": "1903"},
    ],
}
UNKE = {
    "id": 0,
    "question": "What does Jo Doe do?",
    "para_question": "What is Jo Doe's work?",
    "answer": "Jo Doe keeps bees. She has done so for ten years.",
    "sub_question": ["What does Jo Doe keep?", "For how long?"],
    "sub_answer": ["Bees.", "Ten years."],
}
WIKIBIGEDIT = {
    "tag": "update",
    "subject": "Lyon",
    "subject_id": "Q456",
    "relation": "country",
    "relation_id": "P17",
    "object": "Japan",
    "object_id": "Q17",
    "update": "Which country is Lyon in?",
    "rephrase": "Lyon lies in which country?",
    "personas": "Ahoy, in what land be Lyon?",
    "ans": "Japan",
    "loc": "Which country is Nice in?",
    "loc_ans": "France",
    "mhop": "What is the money of the country of Lyon?",
    "mhop_ans": "yen",
}


def read(tmp_path, name, *records, whole=None, **options):
    path = tmp_path / "a.json"
    value = list(records) if whole is None else whole
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    data = load(name, path=path, **options)
    return data.requests, [(fault.field, fault.kind) for fault in data.faults]


def test_qaedit(tmp_path):
    (request,), faults = read(tmp_path, "qaedit", QAEDIT)
    probes = [
        Probe.of("paraphrase", "Which country has the city of Lyon?", ["Japan *"]),
        Probe.of("locality", "who sang the last song", ["Jo Doe"], facet="unrelated"),
        Probe.of("locality", "when was the bridge built", ["1903"], facet="unrelated"),
    ]
    prompt = "in which country is {}?"
    assert request == EditRequest.of("lyon", prompt, "Japan *", None, probes, prompt)
    assert not faults


def test_unke(tmp_path):
    (request,), faults = read(tmp_path, "unke", UNKE)
    text = UNKE["answer"]
    probes = [
        Probe.of("paraphrase", "What is Jo Doe's work?", [text]),
        Probe.of("portability", "What does Jo Doe keep?", ["Bees."], facet="sub_question"),
        Probe.of("portability", "For how long?", ["Ten years."], facet="sub_question"),
        Probe.of("consistency", "What does Jo Doe do?", [text]),
    ]
    assert request == EditRequest.of(None, "What does Jo Doe do?", text, None, probes)
    assert not faults


def test_wikibigedit(tmp_path):
    (request,), faults = read(tmp_path, "wikibigedit", WIKIBIGEDIT)
    probes = [
        Probe.of("paraphrase", "Lyon lies in which country?", ["Japan"]),
        Probe.of("paraphrase", "Ahoy, in what land be Lyon?", ["Japan"], facet="persona"),
        Probe.of(
            "portability",
            "What is the money of the country of Lyon?",
            ["yen"],
            facet="multi_hop",
        ),
        Probe.of("locality", "Which country is Nice in?", ["France"], facet="neighbourhood"),
    ]
    prompt = "Which country is {} in?"
    assert request == EditRequest.of("Lyon", prompt, "Japan", None, probes, "country")
    assert not faults


@pytest.mark.parametrize(
    "loc",
    [
        {"locality": {"loc": "Q?", "loc_ans": "A"}},
        {"locality": [{"prompt": "Q?", "ground_truth": [["A"]]}]},
        {"locality": {"kind": [{"question": ["Q?"], "answer": ["A"]}]}},
        {"locality": {"kind": {"prompt": "Q?", "ground_truth": "A"}}},
        {"locality": None, "loc": "Q?", "loc_ans": ["A"]},
        {"locality": "Q?", "locality_ans": "A"},
        {"locality_prompt": ["Q?"], "locality_ground_truth": "A"},
    ],
)
def test_what_is_to_stay_is_written_in_many_ways(tmp_path, loc):
    record = {"prompt": "Is Lyon big?", "subject": "Lyon", "target_new": ["yes", "very"]}
    record |= {"rephrase_prompt": ["Big Lyon?"], "ground_truth": [["no"]], **loc}
    (request,), faults = read(tmp_path, "qaedit", record)
    assert not faults
    assert (request.target_new, request.target_true) == ("yes", "no")
    assert request.probes == (
        Probe.of("paraphrase", "Big Lyon?", ["yes", "very"], ["no"]),
        Probe.of("locality", "Q?", ["A"], facet="unrelated"),
    )


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_what_pandas_writes_for_nothing_is_nothing(tmp_path, nothing):
    record = {**WIKIBIGEDIT, "mhop": nothing, "mhop_ans": nothing, "personas": nothing}
    (request,), faults = read(tmp_path, "wikibigedit", record)
    assert [probe.facet for probe in request.probes] == ["", "neighbourhood"]
    assert not faults


@pytest.mark.parametrize(
    ("name", "record", "faults"),
    [
        ("wikibigedit", {**WIKIBIGEDIT, "mhop_ans": None}, [("mhop", "no_answers")]),
        ("wikibigedit", {**WIKIBIGEDIT, "subject": "Oslo"}, [("update", "no_subject")]),
        ("wikibigedit", {**WIKIBIGEDIT, "ground_truth": "japan"}, [("ans", "no_op")]),
        ("qaedit", {**QAEDIT, "rephrase": " "}, [("rephrase", "empty")]),
        ("qaedit", {**QAEDIT, "locality": [{}]}, [("locality[0].loc", "empty")]),
        ("qaedit", {**QAEDIT, "locality": [{"loc": "Q?"}]}, [("locality[0].loc[0]", "no_answers")]),
        ("unke", {**UNKE, "sub_answer": ["Bees."]}, [("sub_question", "unpaired")]),
        ("unke", {**UNKE, "sub_answer": ["Bees.", ""]}, [("sub_question[1][0]", "no_answers")]),
    ],
)
def test_faults_of_what_is_kept(tmp_path, name, record, faults):
    requests, found = read(tmp_path, name, record)
    assert len(requests) == 1
    assert [(field.removesuffix("[0]"), kind) for field, kind in found] == [
        (field.removesuffix("[0]"), kind) for field, kind in faults
    ]


@pytest.mark.parametrize(
    ("name", "record", "told"),
    [
        ("qaedit", {**QAEDIT, "target": ""}, "empty 1(.|\n)*target: "),
        ("qaedit", {"prompt": "Q?"}, "missing 1(.|\n)*target: is missing"),
        ("qaedit", {**QAEDIT, "locality": [7]}, r"wrong_type 1(.|\n)*locality\[0\]: "),
        ("qaedit", {**QAEDIT, "prompt": {"a": 1}}, "wrong_type 1(.|\n)*prompt: "),
        ("unke", {**UNKE, "question": []}, "empty 1(.|\n)*question: "),
        ("unke", {**UNKE, "answer": 3}, "wrong_type 1(.|\n)*answer: "),
        ("unke", {**UNKE, "sub_question": 3}, "wrong_type 1(.|\n)*sub_question: "),
        ("wikibigedit", {**WIKIBIGEDIT, "update": None}, "missing 1(.|\n)*prompt: is missing"),
    ],
)
def test_no_edit_can_be_made(tmp_path, name, record, told):
    with pytest.raises(DataError, match=told):
        read(tmp_path, name, record)


def test_a_file_may_be_an_object_of_columns_or_have_one_list(tmp_path):
    wanted, _ = read(tmp_path, "qaedit", QAEDIT, {**QAEDIT, "subject": "country"})
    columns = {key: [value, value] for key, value in QAEDIT.items()}
    columns["subject"] = ["lyon", "country"]
    found, faults = read(tmp_path, "qaedit", whole=columns)
    assert found == wanted
    found, _ = read(tmp_path, "qaedit", whole={"test": [QAEDIT, {**QAEDIT, "subject": "country"}]})
    assert found == wanted
    assert not faults
    columns["prompt"] = ["Q?", ""]
    with pytest.raises(DataError, match=r":1: \[1\].prompt: "):
        read(tmp_path, "qaedit", whole=columns)
    columns["prompt"] = ["Q?"]
    with pytest.raises(DataError, match="columns of different lengths"):
        read(tmp_path, "qaedit", whole=columns)
