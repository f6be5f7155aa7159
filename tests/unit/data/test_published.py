"""The published files themselves: how many records, what is asked of them, and every fault."""

import json
from dataclasses import dataclass, field

import pytest

from editsweep.core.types import AXES, TEXT_AXES, by_case
from editsweep.data.fields import same_text
from editsweep.data.manifest import manifest_of
from editsweep.data.own_format import read_edits, write_edits
from editsweep.data.registry import DATASETS, load, needs_file, show, splits
from editsweep.data.root import datasets_root
from editsweep.model.tokens import is_cjk, join


@dataclass(frozen=True)
class Expected:
    """Of one file: kept records, different relations, probes, faults, and records left out."""

    dataset: str
    file: str
    records: int
    relations: int
    probes: dict
    faults: dict = field(default_factory=dict)
    left_out: dict = field(default_factory=dict)


FILES = [
    Expected(
        "mquake",
        "mquake_hard.jsonl",
        1716,
        30,
        {"paraphrase": {"": 1716}, "portability": {"multi_hop": 1287}},
        {"contradiction": 2, "repeated": 947, "short_alias": 59},
    ),
    Expected(
        "counterfact",
        "counterfact_original_portability.jsonl",
        1031,
        34,
        {
            "paraphrase": {"": 2062},
            "portability": {"reasoning": 1031},
            "locality": {"attribute": 10309, "neighbourhood": 10307},
            "fluency": {"": 3029},
        },
        {"duplicate_probe": 4},
    ),
    Expected(
        "counterfact",
        "counterfact_distracting_neighbor.jsonl",
        804,
        34,
        {
            "paraphrase": {"": 1608},
            "portability": {"reasoning": 804},
            "locality": {
                "attribute": 8039,
                "distractor": 8039,
                "neighbourhood": 8039,
                "unrelated": 804,
            },
            "fluency": {"": 2362},
        },
        {"duplicate_probe": 3},
    ),
    Expected(
        "counterfact",
        "counterfact_subject_replace.jsonl",
        213,
        29,
        {
            "paraphrase": {"": 426},
            "portability": {"alias": 213},
            "locality": {"attribute": 2130, "neighbourhood": 2128},
            "fluency": {"": 627},
        },
        {"duplicate_probe": 2},
    ),
    Expected(
        "counterfact-flat",
        "counterfact_flat_10k.jsonl.gz",
        10_000,
        213,
        {"paraphrase": {"": 10_000}, "locality": {"neighbourhood": 10_000}},
        {"contradiction": 79, "repeated": 4},
    ),
    Expected(
        "wikidata-recent",
        "knowedit_wiki_recent_train.jsonl",
        570,
        26,
        {
            "portability": {"alias": 52, "logical": 223, "reasoning": 476},
            "locality": {"forgetfulness": 147, "relation_specificity": 1641},
        },
        {"answer_is_target": 297, "no_answers": 158},
    ),
    Expected(
        "wikidata-counterfact",
        "knowedit_wiki_counterfact_test.jsonl",
        885,
        35,
        {
            "portability": {"alias": 2408, "logical": 463, "reasoning": 2206},
            "locality": {"forgetfulness": 468, "relation_specificity": 5486},
        },
        {"answer_is_target": 1, "contradiction": 21, "duplicate_probe": 15, "no_answers": 27},
    ),
    Expected(
        "wikidata-counterfact",
        "knowedit_wiki_counterfact_train.jsonl",
        1417,
        29,
        {
            "portability": {"alias": 1399, "logical": 302, "reasoning": 501},
            "locality": {"forgetfulness": 775, "relation_specificity": 1243},
        },
        {"duplicate": 11, "no_answers": 2, "no_op": 6},
        {"duplicate": 11},
    ),
    Expected(
        "knowedit-zsre",
        "knowedit_zsre.jsonl",
        1304,
        484,
        {
            "paraphrase": {"": 1304},
            "reverse": {"": 269},
            "portability": {"alias": 264, "reasoning": 771},
            "locality": {"relation_specificity": 2608},
        },
        {"contradiction": 10, "no_op": 43, "no_subject": 3, "repeated": 8},
    ),
    Expected(
        "wikibio",
        "knowedit_wikibio_test.jsonl",
        306,
        1,
        {"locality": {"relation_specificity": 612}},
    ),
    Expected(
        "convsent",
        "knowedit_convsent_test.jsonl",
        800,
        1,
        {"locality": {"other_subject": 800}, "reliability": {"sentiment": 800}},
    ),
    Expected(
        "sanitation",
        "knowedit_sanitation_test_success.jsonl",
        80,
        1,
        {"reliability": {"refusal": 80}},
    ),
    Expected(
        "known-1000",
        "known_1000.jsonl",
        1208,
        33,
        {},
        {"duplicate": 1},
        {"duplicate": 1},
    ),
    Expected(
        "cknowedit",
        "cknowedit_zh.jsonl",
        700,
        1,
        {"paraphrase": {"": 1832}, "portability": {"": 1432}, "locality": {"": 567}},
        {"contradiction": 1, "duplicate_probe": 1},
    ),
    Expected(
        "bmike-53",
        "bmike53_mzsre_en_zh-cn.jsonl",
        743,
        398,
        {
            "paraphrase": {"": 743},
            "portability": {
                "cross_lingual": 1486,
                "cross_lingual_reasoning": 743,
                "reasoning": 743,
            },
            "locality": {"cross_lingual": 743, "unrelated": 743},
        },
    ),
]
EACH = pytest.mark.parametrize("expected", FILES, ids=lambda e: f"{e.dataset}@{e.file}")


@EACH
def test_counts(expected, real_data):
    card = show(expected.dataset, real_data(expected.file))
    assert card["records"] == expected.records
    edits = {"": expected.records, **expected.probes.get("reliability", {})}
    assert card["probes"] == {**expected.probes, "reliability": edits}
    assert (card["faults"], card["left_out"]) == (expected.faults, expected.left_out)
    assert len(card["relations"]) == expected.relations


@EACH
def test_the_manifest_has_these_counts(expected):
    counted = {each["file"]: each for each in manifest_of(expected.dataset).counted}
    assert counted[expected.file] == {
        "file": expected.file,
        "records": expected.records,
        "faults": expected.faults,
        "left_out": expected.left_out,
    }


@EACH
def test_what_is_converted_is_the_same(expected, real_data, tmp_path):
    data = load(expected.dataset, path=real_data(expected.file), skip_bad=True)
    assert write_edits(data.requests, tmp_path / "a.jsonl") == expected.records
    again = read_edits(tmp_path / "a.jsonl")
    assert again.requests == data.requests
    assert {fault.kind for fault in again.faults} <= {"contradiction", "repeated"}


@EACH
def test_what_every_edit_keeps(expected, real_data):
    data = load(expected.dataset, path=real_data(expected.file), skip_bad=True)
    assert len({request.edit_id for request in data.requests}) == len(data.requests)
    for request in data.requests:
        assert request.prompt.count("{}") == (request.subject is not None)
        assert request.target_new == request.target_new.strip() != ""
        assert same_text(request.target_new) != same_text(request.target_true or "")
        ids = [probe.probe_id for probe in request.all_probes]
        assert len(ids) == len(set(ids))
        for probe in request.probes:
            assert probe.axis in (*AXES, *TEXT_AXES)
            assert probe.prompt == probe.prompt.strip() != ""
            assert all(text == text.strip() != "" for text in (*probe.answers, *probe.unwanted))
            wanted = {same_text(text) for text in probe.answers}
            assert wanted.isdisjoint(same_text(text) for text in probe.unwanted)
            assert wanted or expected.dataset == "convsent" or probe.axis == "fluency"


@EACH
def test_faults_name_their_line(expected, real_data):
    path = real_data(expected.file)
    data = load(expected.dataset, path=path, skip_bad=True)
    largest = max(map(len, by_case(data.requests)))
    for fault in data.notes:
        assert fault.file == str(path)
        assert 0 <= fault.position <= (fault.line - 1) * largest
    kinds = {kind: n for kind, n in expected.faults.items() if kind not in expected.left_out}
    assert len(data.notes) == sum(kinds.values())


@pytest.mark.parametrize(
    ("dataset", "file", "question", "target"),
    [
        ("wikidata-recent", "knowedit_wiki_recent_train.jsonl", "prompt", "target_new"),
        ("wikidata-counterfact", "knowedit_wiki_counterfact_test.jsonl", "prompt", "target_new"),
        ("knowedit-zsre", "knowedit_zsre.jsonl", "prompt", "target_new"),
        ("wikibio", "knowedit_wikibio_test.jsonl", "text", "labels"),
        ("sanitation", "knowedit_sanitation_test_success.jsonl", "question", "target_new"),
        ("cknowedit", "cknowedit_zh.jsonl", "prompt", "target_new"),
    ],
)
def test_question_and_target_are_the_files(dataset, file, question, target, real_data):
    path = real_data(file)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    asked = [(r.question, r.target_new) for r in load(dataset, path=path).requests]
    assert asked == [(r[question].strip(), r[target].strip()) for r in records]


def test_known_facts_are_edited_to_others_of_their_relation(real_data):
    path = real_data("known_1000.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    known = {(r["prompt"], r["attribute"]) for r in map(json.loads, lines)}
    requests = load("known-1000", path=path, skip_bad=True).requests
    assert {(r.question, r.target_true) for r in requests} == known
    same = [
        r
        for r in requests
        if r.target_new in {o.target_true for o in requests if o.relation == r.relation}
    ]
    assert len(requests) - len(same) == 1  # the only one of its relation


@pytest.mark.parametrize(
    ("dataset", "file", "chinese"),
    [
        ("cknowedit", "cknowedit_zh.jsonl", 700),
        ("bmike-53", "bmike53_mzsre_en_zh-cn.jsonl", 743),
    ],
)
def test_no_space_stands_before_a_chinese_answer(dataset, file, chinese, real_data):
    requests = load(dataset, path=real_data(file)).requests
    asked = [
        (probe.prompt, answer)
        for request in requests
        for probe in request.all_probes
        for answer in probe.answers
        if is_cjk(probe.prompt[-1]) or is_cjk(answer[0])
    ]
    assert len(asked) > chinese
    assert all(join(prompt, answer) == prompt + answer for prompt, answer in asked)


@pytest.mark.parametrize("name", [n for n in DATASETS.table if needs_file(n)])
def test_every_set_has_a_card_and_is_in_the_docs(name):
    card = datasets_root() / name.removesuffix("-answers") / "README.md"
    text = card.read_text(encoding="utf-8")
    assert name in text
    assert "licence" in text.lower()
    docs = datasets_root().parent / "docs" / "data-format.md"
    assert f"`{name}`" in docs.read_text(encoding="utf-8")
    assert splits(name) == ("all",)
