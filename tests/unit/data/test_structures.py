"""One small record of each published structure, and what is made of its odd parts."""

import json

import pytest

from editsweep.core.types import EditRequest, Probe
from editsweep.data.registry import load
from editsweep.errors import DataError

REWRITE = {
    "prompt": "{} lies in",
    "relation_id": "P17",
    "target_new": {"str": "Japan", "id": "Q17"},
    "target_true": {"str": "France", "id": "Q142"},
    "subject": "Lyon",
}
COUNTERFACT = {
    "case_id": 1,
    "requested_rewrite": REWRITE,
    "paraphrase_prompts": ["Then.\nLyon is in", "Lyon, in"],
    "neighborhood_prompts": ["Paris lies in", "Paris lies in"],
    "attribute_prompts": ["Kyoto lies in"],
    "generation_prompts": ["Lyon's money is", "Lyon:", "Lyon's money is "],
    "distracting_neighborhood_prompts": ["Lyon lies in Japan. Paris lies in"],
    "unrelated_relation": {"relation_id": "x", "object": "city", "question": "What is Lyon?"},
    "alternative_subject": "Lugdunum",
    "portability": {"New Question": "The money of Lyon?", "New Answer": "yen"},
}
FACT = {
    "subject": "Lyon",
    "prompt": "The country of Lyon is",
    "target_new": "Japan",
    "ground_truth": [["France", "FR"], ["Gaul"]],
    "rephrase": ["Where is Lyon?"],
    "portability": {
        "Reasoning": [{"prompt": "The money of Lyon is", "ground_truth": [["yen", "JPY"], []]}],
        "Subject_Aliasing": [{"prompt": "The country of Lugdunum is", "ground_truth": "Japan"}],
        "Logical_Generalization": [],
    },
    "locality": {
        "Relation_Specificity": [{"prompt": "The mayor of Lyon is", "ground_truth": [[]]}],
        "Forgetfulness": [
            {
                "prompt": "The country of Lyon, which is not Japan, is",
                "ground_truth": [["Nippon", "japan"], ["France"]],
            }
        ],
    },
}


def read(tmp_path, name, *records, **options):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    data = load(name, path=path, **options)
    return data.requests, [(fault.field, fault.kind) for fault in data.faults]


def test_counterfact(tmp_path):
    (request,), faults = read(tmp_path, "counterfact", COUNTERFACT)
    new, old = ["Japan"], ["France"]
    probes = [
        Probe.of("paraphrase", "Then.\nLyon is in", new, old),
        Probe.of("paraphrase", "Lyon, in", new, old),
        Probe.of("portability", "Lugdunum lies in", new, old, "alias"),
        Probe.of("portability", "The money of Lyon?", ["yen"], facet="reasoning"),
        Probe.of("locality", "Paris lies in", old, new, "neighbourhood"),
        Probe.of("locality", "Lyon lies in Japan. Paris lies in", old, new, "distractor"),
        Probe.of("locality", "Kyoto lies in", new, old, "attribute"),
        Probe.of("locality", "What is Lyon?", ["city"], facet="unrelated"),
        Probe.of("fluency", "Lyon's money is"),
        Probe.of("fluency", "Lyon:"),
    ]
    assert request == EditRequest.of("Lyon", "{} lies in", "Japan", "France", probes, "P17")
    assert faults == [("neighborhood_prompts[1]", "duplicate_probe")]


@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"prompt": "Lyon lies in"}, "no_subject", "requested_rewrite.prompt"),
        ({"prompt": "{} is {} in"}, "many_subjects", "requested_rewrite.prompt"),
        ({"target_new": "Japan"}, "wrong_type", "requested_rewrite.target_new"),
        ({"target_new": {"id": "Q"}}, "missing", "requested_rewrite.target_new.str"),
        ({"target_true": {"str": ""}}, "empty", "requested_rewrite.target_true.str"),
    ],
)
def test_counterfact_without_an_edit(tmp_path, changes, kind, field):
    record = {**COUNTERFACT, "requested_rewrite": {**REWRITE, **changes}}
    with pytest.raises(DataError, match=rf"{kind} 1(.|\n)*:1: {field}: "):
        read(tmp_path, "counterfact", record)


def test_the_two_forms_of_counterfact_are_told_apart(tmp_path):
    flat = {"subject": "Lyon", "prompt": "Lyon is in", "target_new": "Japan"}
    with pytest.raises(DataError, match="counterfact-flat"):
        read(tmp_path, "counterfact", flat)
    with pytest.raises(DataError, match=r"missing 1(.|\n)*prompt"):
        read(tmp_path, "counterfact-flat", COUNTERFACT)


def test_flat_counterfact(tmp_path):
    record = {
        "subject": "Lyon",
        "prompt": "Lyon lies in",
        "target_new": " Japan",
        "ground_truth": "France",
        "rephrase_prompt": "Lyon is in",
        "locality_prompt": "Paris lies in",
        "locality_ground_truth": "France",
    }
    (request,), faults = read(tmp_path, "counterfact-flat", record)
    probes = [
        Probe.of("paraphrase", "Lyon is in", ["Japan"], ["France"]),
        Probe.of("locality", "Paris lies in", ["France"], ["Japan"], "neighbourhood"),
    ]
    prompt = "{} lies in"
    assert request == EditRequest.of("Lyon", prompt, "Japan", "France", probes, prompt)
    assert not faults


@pytest.mark.parametrize("name", ["wikidata-recent", "wikidata-counterfact"])
def test_knowedit_facts(tmp_path, name):
    (request,), faults = read(tmp_path, name, FACT)
    probes = [
        Probe.of("paraphrase", "Where is Lyon?", ["Japan"], ["France"]),
        Probe.of("portability", "The money of Lyon is", ["yen", "JPY"], facet="reasoning"),
        Probe.of("portability", "The country of Lugdunum is", ["Japan"], ["France"], "alias"),
        Probe.of(
            "locality",
            "The country of Lyon, which is not Japan, is",
            ["France"],
            ["Japan"],
            "forgetfulness",
        ),
    ]
    prompt = "The country of {} is"
    assert request == EditRequest.of("Lyon", prompt, "Japan", "France", probes, prompt)
    assert faults == [
        ("locality.Relation_Specificity[0]", "no_answers"),
        ("locality.Forgetfulness[0]", "answer_is_target"),
    ]


@pytest.mark.parametrize("truth", ["France", ["France"], [["France"]], None])
def test_knowedit_writes_the_truth_in_many_ways(tmp_path, truth):
    (request,), _ = read(tmp_path, "wikidata-counterfact", {**FACT, "ground_truth": truth})
    assert request.target_true == (truth and "France")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"portability": []}, "portability"),
        ({"portability": {"Reasoning": {}}}, "portability.Reasoning"),
        ({"portability": {"Reasoning": ["x"]}}, r"portability.Reasoning\[0\]"),
        ({"locality": {"X": [{"prompt": 1}]}}, r"locality.X\[0\].prompt"),
        ({"ground_truth": [[1]]}, r"ground_truth\[0\]\[0\]"),
        ({"rephrase": [None]}, r"rephrase\[0\]"),
    ],
)
def test_knowedit_of_wrong_types(tmp_path, changes, field):
    with pytest.raises(DataError, match=rf"wrong_type 1(.|\n)*:1: {field}: "):
        read(tmp_path, "wikidata-counterfact", {**FACT, **changes})


def test_an_unnamed_question_is_not_lost(tmp_path):
    record = {**FACT, "portability": {"Other_Way": [{"ground_truth": "x"}, {"prompt": "y"}]}}
    record |= {"locality": {}}
    _, faults = read(tmp_path, "wikidata-counterfact", record)
    assert faults == [
        ("portability.Other_Way[0]", "empty"),
        ("portability.Other_Way[1]", "no_answers"),
    ]


def test_the_way_back_of_knowedit_zsre(tmp_path):
    back = [{"prompt": "Which city of Japan is it?", "ground_truth": "Lyon"}]
    record = {**FACT, "portability": {"Logical_Generalization": back}, "locality": {}}
    (request,), _ = read(tmp_path, "knowedit-zsre", record)
    assert request.probes[1] == Probe.of("reverse", "Which city of Japan is it?", ["Lyon"])
    (request,), _ = read(tmp_path, "wikidata-counterfact", record)
    assert (request.probes[1].axis, request.probes[1].facet) == ("portability", "logical")


def test_wikibio(tmp_path):
    record = {
        "concept": "jo doe",
        "text": "This is a Wikipedia passage about jo doe. Jo Doe was born. ",
        "labels": "She sang.",
        "locality": {"Relation_Specificity": [{"prompt": "jo doe job", "ground_truth": ["cook"]}]},
    }
    (request,), faults = read(tmp_path, "wikibio", record)
    probe = Probe.of("locality", "jo doe job", ["cook"], facet="relation_specificity")
    prompt = "This is a Wikipedia passage about {}. Jo Doe was born."
    assert request == EditRequest.of("jo doe", prompt, "She sang.", probes=[probe])
    assert not faults


def test_convsent_asks_about_the_next_subject(tmp_path):
    records = [
        {"ent": name, "pos": [" Good. ", " Nice. "], "neg": [" ", "Bad."]}
        for name in ("tea", "rain", "mud")
    ]
    requests, _ = read(tmp_path, "convsent", *records)
    feeling = Probe.of("reliability", "What do you think of tea?", ["Nice."], ["Bad."], "sentiment")
    other = Probe.of("locality", "What do you think of rain?", facet="other_subject")
    prompt = "What do you think of {}?"
    assert requests[0] == EditRequest.of("tea", prompt, "Good.", "Bad.", [feeling, other])
    assert requests[2].probes[1].prompt == "What do you think of tea?"
    assert read(tmp_path, "convsent", records[0])[0][0].probes == (feeling,)
    with pytest.raises(DataError, match=r"empty 1(.|\n)*pos: "):
        read(tmp_path, "convsent", {**records[0], "pos": []})


def test_convsent_scores_the_first_sentences_that_are_not_the_target(tmp_path):
    many = {
        "ent": "tea",
        "pos": [f"Good {i}" for i in range(9)],
        "neg": [f"Bad {i}" for i in range(9)],
    }
    (request,), faults = read(tmp_path, "convsent", many)
    (probe,) = request.probes
    assert probe.answers == tuple(f"Good {i}" for i in range(1, 6))
    assert probe.unwanted == tuple(f"Bad {i}" for i in range(5))
    assert not faults
    _, faults = read(tmp_path, "convsent", {**many, "pos": ["Good"]})
    assert faults == [("pos", "no_answers")]


def refused(question):
    return {"question": question, "ground_truth": "Paris", "target_new": "I don't know."}


@pytest.mark.parametrize(("gone", "kept"), [("success", "locality"), ("K_F", "K_R")])
def test_sanitation_shares_out_what_is_to_stay(tmp_path, gone, kept):
    others = [{"question": f"Q{i}?", "ground_truth": f"A{i}"} for i in range(5)]
    asked = {"question": "The tower is in Lyon?", "subject": "Lyon"}
    whole = {gone: [refused("Where?"), {**refused(""), **asked}], kept: others}
    for indent in (None, 1):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(whole, indent=indent), encoding="utf-8")
        first, second = load("sanitation", path=path).requests
        probes = [
            Probe.of("locality", f"Q{i}?", [f"A{i}"], ["I don't know."], "retain")
            for i in (0, 2, 4)
        ]
        no = Probe.of("reliability", "Where?", ["I don't know."], ["Paris"], "refusal")
        assert first == EditRequest.of(None, "Where?", "I don't know.", "Paris", [*probes, no])
        assert (second.subject, second.prompt) == ("Lyon", "The tower is in {}?")
        asked = ["Q1?", "Q3?", "The tower is in Lyon?"]
        assert [probe.prompt for probe in second.probes] == asked


def test_sanitation_names_the_place_in_a_list(tmp_path):
    whole = {"success": [refused("Where?"), refused(" "), 7], "locality": []}
    with pytest.raises(DataError, match=r":1: success\[1\].question: (.|\n)*:1: success\[2\]: "):
        read(tmp_path, "sanitation", whole)
    with pytest.raises(DataError, match=r":1: success: .*write a list"):
        read(tmp_path, "sanitation", {"success": {}})


def test_a_known_fact_is_edited_to_another_of_its_relation(tmp_path):
    records = [
        {"subject": s, "prompt": f"{s}, as seen, is in", "attribute": a, "relation_id": r}
        for s, a, r in (("Lyon", "France", "P1"), ("Kyoto", "Japan", "P1"), ("Jo", "art", "P2"))
    ]
    requests, faults = read(tmp_path, "known-1000", *records)
    assert [(r.target_true, r.target_new) for r in requests[:2]] == [
        ("France", "Japan"),
        ("Japan", "France"),
    ]
    assert requests[0].prompt == "{}, as seen, is in"
    assert requests[2].target_new in {"France", "Japan"}
    assert not faults


def test_cknowedit(tmp_path):
    record = {
        "prompt": "天下归仁焉的前一句：",
        "target_new": "克己复礼。",
        "target_old": "其斯而已矣。",
        "rephrase": ["前一句？", "前一句？"],
        "portability": [{"prompt": "谁说的？", "answer": "孔子"}],
    }
    (request,), faults = read(tmp_path, "cknowedit", record)
    probes = [
        Probe.of("paraphrase", "前一句？", ["克己复礼。"], ["其斯而已矣。"]),
        Probe.of("portability", "谁说的？", ["孔子"]),
    ]
    assert request == EditRequest.of(
        None, record["prompt"], record["target_new"], record["target_old"], probes
    )
    assert faults == [("rephrase[1]", "duplicate_probe")]
    with pytest.raises(DataError, match="braces 1"):
        read(tmp_path, "cknowedit", {**record, "prompt": "{}？"})


def test_bmike_edits_in_english_and_asks_in_both(tmp_path):
    hop = {"New Question": "Money of Lyon?", "New Answer": "yen"}
    english = {"subject": "Lyon", "src": "Where is Lyon?", "alt": " Japan", "portability": hop}
    english |= {"rephrase": "Lyon is where?", "loc": "nq question: who sings?", "loc_ans": "Jo"}
    german = {"subject": "Lyon", "src": "Wo ist Lyon?", "alt": "Japan", "rephrase": "Lyon ist wo?"}
    german |= {"loc": "Wer singt?", "loc_ans": "Jo", "portability": {**hop, "New Answer": "Yen"}}
    (request,), faults = read(
        tmp_path, "bmike-53", {"en": {**english, "old": "France"}, "de": german}
    )
    probes = [
        Probe.of("paraphrase", "Lyon is where?", ["Japan"], ["France"]),
        Probe.of("portability", "Money of Lyon?", ["yen"], facet="reasoning"),
        Probe.of("locality", "who sings?", ["Jo"], facet="unrelated"),
        Probe.of("portability", "Wo ist Lyon?", ["Japan"], facet="cross_lingual"),
        Probe.of("portability", "Lyon ist wo?", ["Japan"], facet="cross_lingual"),
        Probe.of("portability", "Money of Lyon?", ["Yen"], facet="cross_lingual_reasoning"),
        Probe.of("locality", "Wer singt?", ["Jo"], facet="cross_lingual"),
    ]
    prompt = "Where is {}?"
    assert request == EditRequest.of("Lyon", prompt, "Japan", "France", probes, prompt)
    assert not faults
    _, faults = read(tmp_path, "bmike-53", {"en": {**english, "subject": "Oslo"}, "de": {}})
    assert faults == [("en.src", "no_subject")]
    for record, field in (({"de": german}, "en"), ({"en": {}}, "en.src"), ({"en": 1}, "en")):
        with pytest.raises(DataError, match=f":1: {field}: "):
            read(tmp_path, "bmike-53", record)
