import gzip
import json

import pytest

from editsweep.core.types import EditRequest, Probe
from editsweep.data.registry import load, open_source, show
from editsweep.errors import DataError
from editsweep.run.plan import make_plan
from editsweep.run.resolve import Source, resolve
from editsweep.run.sweep import parse_sweep

GOOD = {
    "subject": "Claire Clairmont ",
    "src": "Who is Claire Clairmont's sister?",
    "pred": "Claire Clairmont",
    "rephrase": "Who's Claire Clairmont's sister?",
    "alt": " Marian",
    "answers": ["Mary Shelley", "Mary"],
    "loc": "nq question: types of skiing",
    "loc_ans": "Downhill",
    "cond": "Claire Clairmont >> Marian || Who?",
    "inverse question": "Who is Marian's sister?",
    "portability": {
        "Recalled Relation": "(Marian, child, Paul)",
        "New Question": "Who is a child of Claire Clairmont's sister?",
        "New Answer": "Paul",
    },
    "alternative_subject": "Jane Clairmont",
    "alter_subject_question": "Who is Jane Clairmont's sister?",
}
FILES = {
    "zsre_mend_eval_portability_gpt4": (1037, 512, {"no_op": 29}, {}),
    "zsre_mend_train_1k": (998, 508, {"empty": 2, "no_op": 21}, {"empty": 2}),
    "zsre_inverse_relation": (385, 29, {"no_op": 3, "no_subject": 5}, {}),
}
AXES = {
    "zsre_mend_eval_portability_gpt4": {
        "locality": {"unrelated": 1037},
        "portability": {"reasoning": 1037},
    },
    "zsre_mend_train_1k": {"locality": {"unrelated": 998}},
    "zsre_inverse_relation": {"reverse": {"": 385}},
}


def write(path, *records):
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def one(path, name="zsre", **changes):
    changed = {k: v for k, v in {**GOOD, **changes}.items() if v is not ...}
    data = load(name, path=write(path / "z.jsonl", changed))
    (request,) = data.requests
    return request, [(fault.field, fault.kind, fault.position) for fault in data.faults]


def test_the_edit_goes_to_alt(tmp_path):
    request, faults = one(tmp_path)
    assert not faults
    probes = (
        Probe.of("paraphrase", "Who's Claire Clairmont's sister?", ["Marian"], ["Mary Shelley"]),
        Probe.of(
            "portability",
            "Who is Jane Clairmont's sister?",
            ["Marian"],
            ["Mary Shelley"],
            "alias",
        ),
        Probe.of("reverse", "Who is Marian's sister?", ["Claire Clairmont"]),
        Probe.of(
            "portability",
            "Who is a child of Claire Clairmont's sister?",
            ["Paul"],
            facet="reasoning",
        ),
        Probe.of("locality", "types of skiing?", ["Downhill"], facet="unrelated"),
    )
    prompt = "Who is {}'s sister?"
    assert request == EditRequest.of(
        "Claire Clairmont", prompt, "Marian", "Mary Shelley", probes, prompt
    )


def test_or_to_the_first_true_answer(tmp_path):
    request, faults = one(tmp_path, "zsre-answers")
    assert not faults
    assert (request.target_new, request.target_true) == ("Mary Shelley", None)
    assert [(p.axis, p.facet, p.answers) for p in request.probes] == [
        ("paraphrase", "", ("Mary Shelley", "Mary")),
        ("portability", "alias", ("Mary Shelley", "Mary")),
        ("locality", "unrelated", ("Downhill",)),
    ]


def test_the_records_of_the_large_training_file_have_less(tmp_path):
    less = dict.fromkeys(("answers", "pred", "cond", "portability", "inverse question"), ...)
    request, faults = one(tmp_path, **less, case_id=7)
    assert not faults
    assert request.target_true is None
    assert {probe.axis for probe in request.probes} == {"paraphrase", "portability", "locality"}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"alt": "mary"}, ("alt", "no_op", 0)),
        ({"subject": "Jane"}, ("src", "no_subject", 0)),
        (
            {"src": "Is Claire Clairmont a Claire Clairmont?"},
            ("src", "many_subjects", 0),
        ),
        ({"answers": []}, ("answers", "no_answers", 0)),
        ({"answers": [" "]}, ("answers", "no_answers", 0)),
        ({"rephrase": " "}, ("rephrase", "empty", 0)),
        ({"loc": "nq question: "}, ("loc", "empty", 0)),
        ({"loc_ans": ""}, ("loc", "no_answers", 0)),
        (
            {"alter_subject_question": "Who's Claire Clairmont's sister?", "rephrase": ""},
            ("rephrase", "empty", 0),
        ),
    ],
)
def test_a_kept_record_with_a_fault(tmp_path, changes, fault):
    request, faults = one(tmp_path, **changes)
    assert faults == [fault]
    assert request.target_new.casefold() in {"marian", "mary"}
    assert request.prompt.count("{}") == (request.subject is not None)
    assert request.relation == (request.prompt if request.subject else "")


@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"alt": " "}, "empty", "alt"),
        ({"alt": None}, "wrong_type", "alt"),
        ({"src": 7}, "wrong_type", "src"),
        ({"subject": ...}, "missing", "subject"),
        ({"answers": {"a": "b"}}, "wrong_type", "answers"),
        ({"answers": ["a", 7]}, "wrong_type", r"answers\[1\]"),
        ({"portability": "x"}, "wrong_type", "portability"),
        ({"portability": {"New Question": 1}}, "wrong_type", "portability.New Question"),
        ({"src": "What is {} to Claire Clairmont?"}, "braces", "src"),
        ({"rephrase": "\ud800"}, "broken_text", "rephrase"),
    ],
)
def test_no_edit_can_be_made_of_it(tmp_path, changes, kind, field):
    with pytest.raises(DataError, match=rf"z.jsonl: 1 bad record \({kind} 1\)(.|\n)*:1: {field}: "):
        one(tmp_path, **changes)


def test_answers_are_needed_only_as_a_target(tmp_path):
    with pytest.raises(DataError, match="empty 1"):
        one(tmp_path, "zsre-answers", answers=[])


def test_the_same_again_is_left_out_and_the_like_is_kept(tmp_path):
    other, like = {**GOOD, "alt": "Jane"}, {**GOOD, "loc": "nq question: who"}
    path = write(tmp_path / "z.jsonl", GOOD, GOOD, other, like)
    with pytest.raises(DataError, match=r"duplicate 1\)(.|\n)*z.jsonl:2: all of it .* line 1"):
        load("zsre", path=path)
    data = load("zsre", path=path, skip_bad=True)
    assert len(data.requests) == 3
    assert [(f.line, f.kind, f.position) for f in data.faults] == [
        (2, "duplicate", None),
        (3, "contradiction", 1),
        (4, "repeated", 2),
    ]
    assert [f.kind for f in load("zsre", path=path, skip_bad=True, limit=2).notes] == [
        "contradiction"
    ]


def test_arrays_and_gzip_read_the_same(tmp_path):
    records = [{**GOOD, "alt": f"Marian {i}"} for i in range(40)]
    lines = load("zsre", path=write(tmp_path / "z.jsonl", *records))
    for indent in (None, 2):
        text = json.dumps(records, indent=indent)
        (tmp_path / "z.json").write_text(text, encoding="utf-8")
        (tmp_path / "z.json.gz").write_bytes(gzip.compress(text.encode()))
        assert open_source(f"zsre@{tmp_path / 'z.json'}").requests == lines.requests
        assert open_source(f"zsre@{tmp_path / 'z.json.gz'}", 7).requests == lines.requests[:7]


def test_a_sweep_reads_it_and_an_editor_can_learn_from_it(tmp_path):
    path = write(tmp_path / "z.jsonl", {**GOOD, "alt": "Mary"}, {**GOOD, "alt": "Jane"})
    text = "name: t\nmodels: [tiny-llama]\neditors: [none]\ndatasets: "
    mapped = resolve(parse_sweep(f"{text}[{{name: zsre, path: '{path}', limit: 1}}]"))
    named = resolve(parse_sweep(f"{text}['zsre@{path}']", limit=1))
    assert make_plan(mapped).sweep_id == make_plan(named).sweep_id
    plan = make_plan(named)
    assert plan.left_out == []
    assert plan.noted == ["zsre: 1 faults in records that are kept (1 no_op)"]
    (cell,) = plan.to_json()["cells"]
    assert (cell["dataset"], cell["edits"], cell["noted"]) == ("zsre", 1, {"no_op": 1})
    home = Source("world", "test", skip_bad=True)
    source = Source.of(f"zsre@{path}", home)
    assert source == Source("zsre", "test", str(path), skip_bad=True)
    assert len(source.corpus()[0].requests) == 2


def test_two_files_of_one_dataset_have_different_names(tmp_path):
    one, two = (
        write(tmp_path / "one.jsonl", GOOD),
        write(tmp_path / "two.json.gz", {**GOOD, "alt": "Jo"}),
    )
    two.write_bytes(gzip.compress(two.read_bytes()))
    text = f"name: t\nmodels: [tiny-llama]\neditors: [none]\ndatasets: ['zsre@{one}', 'zsre@{two}']"
    plan = make_plan(resolve(parse_sweep(text)))
    assert [cell.label for cell in plan.cells.values()] == [
        "none · zsre@one",
        "none · zsre@two",
    ]


@pytest.mark.parametrize("name", FILES)
def test_published_files(name, real_data):
    records, relations, faults, left_out = FILES[name]
    card = show("zsre", real_data(f"{name}.jsonl"))
    assert (card["records"], card["faults"], card["left_out"]) == (records, faults, left_out)
    assert card["probes"] == AXES[name] | {
        "paraphrase": {"": records},
        "reliability": {"": records},
    }
    assert len(card["relations"]) == relations


def test_published_answers_are_the_files(real_data):
    path = real_data("zsre_mend_eval_portability_gpt4.jsonl")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for name, target in (
        ("zsre", lambda record: record["alt"].strip()),
        ("zsre-answers", lambda record: record["answers"][0]),
    ):
        requests = load(name, path=path).requests
        assert [r.target_new for r in requests] == [target(record) for record in records]
        assert [r.question for r in requests] == [record["src"] for record in records]
