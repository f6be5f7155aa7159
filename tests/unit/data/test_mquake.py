"""MQuAKE: what is made of a case, in small and of the published file."""

import json

import pytest

from editsweep.core.types import EditRequest, Probe, by_case
from editsweep.data.registry import load
from editsweep.errors import DataError

LYON = {
    "prompt": "{} lies in",
    "relation_id": "P17",
    "target_new": {"str": "Japan", "id": "Q17"},
    "target_true": {"str": "France", "id": "Q142"},
    "subject": "Lyon",
    "question": "Where does Lyon lie?",
}
YEN = {
    "prompt": "The money of {} is",
    "relation_id": "P38",
    "target_new": {"str": "sol", "id": "Q1"},
    "target_true": {"str": "yen", "id": "Q2"},
    "subject": "Japan",
    "question": "What is the money of Japan?",
}
CASE = {
    "case_id": 7,
    "requested_rewrite": [LYON, YEN],
    "questions": ["Who draws the money of Lyon?", "The money of Lyon is drawn by whom?"],
    "answer": "Ada",
    "answer_alias": ["Ada L.", "Bea"],
    "new_answer": "Bea",
    "new_answer_alias": ["B.", "Beatrice"],
    "new_single_hops": [
        {"question": "Where does Lyon lie?", "cloze": "Lyon lies in", "answer": "Japan"},
        {"question": "Money of Japan?", "cloze": "The money of Japan is", "answer": "sol"},
        {
            "question": "Who draws the sol?",
            "cloze": "The sol is drawn by",
            "answer": "Bea",
            "answer_alias": ["Beatrice"],
        },
    ],
}
HARD = "mquake_hard.jsonl"


def read(tmp_path, *records, **options):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    data = load("mquake", path=path, **options)
    return data.requests, [(fault.field, fault.kind) for fault in data.faults]


def test_a_case(tmp_path):
    (first, last), faults = read(tmp_path, CASE)
    answers, before = ["Bea", "B.", "Beatrice"], ["Ada", "Ada L."]
    assert first == EditRequest.of(
        "Lyon",
        "{} lies in",
        "Japan",
        "France",
        [Probe.of("paraphrase", "Where does Lyon lie?", ["Japan"], ["France"])],
        "P17",
        "7",
    )
    probes = [
        Probe.of("paraphrase", "What is the money of Japan?", ["sol"], ["yen"]),
        Probe.of("locality", "The sol is drawn by", ["Bea", "Beatrice"], facet="single_hop"),
        Probe.of("portability", CASE["questions"][0], answers, before, "multi_hop"),
        Probe.of("portability", CASE["questions"][1], answers, before, "multi_hop"),
    ]
    assert last == EditRequest.of("Japan", "The money of {} is", "sol", "yen", probes, "P38", "7")
    assert faults == [("new_answer_alias", "short_alias")]


def test_one_question_and_no_number(tmp_path):
    record = {key: CASE[key] for key in ("requested_rewrite", "new_answer")}
    (first, last), _ = read(tmp_path, record | {"questions": "Who draws it?"})
    assert first.case == last.case != ""
    assert [p.prompt for p in last.probes if p.axis == "portability"] == ["Who draws it?"]


@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"requested_rewrite": []}, "missing", "requested_rewrite"),
        ({"requested_rewrite": LYON}, "wrong_type", "requested_rewrite"),
        (
            {"requested_rewrite": [LYON, {**YEN, "prompt": "x"}]},
            "no_subject",
            r"requested_rewrite\[1\].prompt",
        ),
        (
            {"requested_rewrite": [{**LYON, "target_new": "Japan"}]},
            "wrong_type",
            r"requested_rewrite\[0\].target_new",
        ),
        ({"case_id": [7]}, "wrong_type", "case_id"),
    ],
)
def test_without_one_of_its_edits_a_case_is_left_out_whole(tmp_path, changes, kind, field):
    with pytest.raises(DataError, match=rf"{kind} 1(.|\n)*:1: {field}: "):
        read(tmp_path, {**CASE, **changes})
    requests, _ = read(tmp_path, {**CASE, **changes}, {**CASE, "case_id": 8}, skip_bad=True)
    assert [request.case for request in requests] == ["8", "8"]


def test_a_limit_takes_whole_cases(tmp_path):
    records = [{**CASE, "case_id": number} for number in range(3)]
    for limit, kept in ((1, 2), (2, 2), (3, 4), (6, 6), (9, 6)):
        assert len(read(tmp_path, *records, limit=limit)[0]) == kept


def test_the_published_file(real_data):
    path = real_data(HARD)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    cases = by_case(load("mquake", path=path).requests)
    assert len(cases) == len(records) == 429
    for record, case in zip(records, cases, strict=True):
        assert {request.case for request in case} == {str(record["case_id"])}
        rewrites = [(r["subject"], r["target_new"]["str"]) for r in record["requested_rewrite"]]
        assert [(r.subject, r.target_new) for r in case] == rewrites
        (*rest, last) = case
        assert all(p.axis == "paraphrase" for request in rest for p in request.probes)
        asked = [p for p in last.probes if p.facet == "multi_hop"]
        assert [p.prompt for p in asked] == [text.strip() for text in record["questions"]]
        for probe in asked:
            assert probe.answers == (record["new_answer"], *record["new_answer_alias"])
            assert probe.unwanted == (record["answer"], *record["answer_alias"])
