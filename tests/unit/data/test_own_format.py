import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editsweep.core.types import AXES, EditRequest, Probe
from editsweep.data.own_format import read_edits, write_edits
from editsweep.data.reading import SHOWN
from editsweep.errors import DataError

GOOD = {"subject": "Lyon", "prompt": "{} is in", "target_new": "Japan", "target_true": "France"}
PROBE = {"axis": "paraphrase", "prompt": "Where is Lyon? In", "answers": "Japan"}


def with_probe(**changes):
    return {**GOOD, "probes": [{**PROBE, **changes}]}


def without(record, key):
    return {name: value for name, value in record.items() if name != key}


def write(path, *records):
    lines = [
        r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in records
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_reads_every_field(tmp_path):
    probe = {**PROBE, "answers": [" Japan", "Nippon "], "unwanted": "France", "facet": "question"}
    record = {**GOOD, "target_new": " Japan ", "subject": "Lyon ", "relation": "country"}
    (request,) = read_edits(write(tmp_path / "a.jsonl", {**record, "probes": [probe]})).requests
    wanted = Probe.of(
        "paraphrase", "Where is Lyon? In", ("Japan", "Nippon"), ("France",), "question"
    )
    assert request == EditRequest.of("Lyon", "{} is in", "Japan", "France", [wanted], "country")
    assert request.question == "Lyon is in"


def test_a_text_may_begin_without_an_answer(tmp_path):
    record = {**GOOD, "probes": [{"axis": "fluency", "prompt": "Lyon is"}]}
    (request,) = read_edits(write(tmp_path / "a.jsonl", record)).requests
    assert request.probes == (Probe.of("fluency", "Lyon is"),)
    probe = {"axis": "consistency", "prompt": "Lyon is", "answers": ["Lyon is a city."]}
    (request,) = read_edits(write(tmp_path / "a.jsonl", {**GOOD, "probes": [probe]})).requests
    assert request.probes[0].answers == ("Lyon is a city.",)


def test_the_subject_in_the_prompt_becomes_the_template(tmp_path):
    path = write(tmp_path / "a.jsonl", {**GOOD, "prompt": "People say Lyon is in  "})
    assert read_edits(path).requests[0].prompt == "People say {} is in"


def test_no_subject_is_allowed(tmp_path):
    path = write(tmp_path / "a.jsonl", {"prompt": "It rains", "target_new": "today"})
    (request,) = read_edits(path).requests
    assert request.subject is None
    assert request.question == "It rains"


def test_byte_order_mark_and_empty_lines_are_skipped_and_lines_still_count(tmp_path):
    path = tmp_path / "a.jsonl"
    good = json.dumps(GOOD).encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\r\n  \n{\n")
    read = read_edits(path, skip_bad=True)
    assert len(read.requests) == 1
    assert [(fault.line, fault.kind) for fault in read.faults] == [(4, "invalid_json")]


BAD = [
    ({**GOOD, "again": 1}, "again", "wrong_type", "true or false"),
    (b"{'subject': 1}", "", "invalid_json", "column 2"),
    (b'{"prompt": "caf\xe9", "target_new": "x"}', "", "broken_utf8", "0xe9"),
    (b"[" * 100_000, "", "invalid_json", "nested"),
    (b'{"prompt": "a", "prompt": "b", "target_new": "c"}', "prompt", "repeated_key", "twice"),
    ([1], "", "wrong_type", "[1] (list)"),
    ({**GOOD, "subject": 7}, "subject", "wrong_type", "7 (number)"),
    ({**GOOD, "target_new": None}, "target_new", "wrong_type", "null"),
    ({**GOOD, "target_new": True}, "target_new", "wrong_type", "True (boolean)"),
    (without(GOOD, "target_new"), "target_new", "missing", "every record needs it"),
    ({**GOOD, "target": "x"}, "target", "unknown_key", "did you mean 'target_new'"),
    ({**GOOD, "target_new": " "}, "target_new", "empty", "write some text"),
    ({**GOOD, "prompt": ""}, "prompt", "empty", "write some text"),
    ({**GOOD, "subject": ""}, "subject", "empty", "write some text"),
    ({**GOOD, "prompt": "it is in"}, "prompt", "no_subject", "'Lyon'"),
    ({**GOOD, "prompt": "{} and {} are in"}, "prompt", "many_subjects", "2 times"),
    ({**GOOD, "prompt": "Lyon, Lyon is in"}, "prompt", "many_subjects", "2 times"),
    ({**GOOD, "subject": None}, "prompt", "no_subject", "there is no subject"),
    ({**GOOD, "target_new": "  fRANCE"}, "target_new", "no_op", "has to change"),
    ({**GOOD, "probes": {}}, "probes", "wrong_type", "list of objects"),
    ({**GOOD, "probes": ["x"]}, "probes[0]", "wrong_type", "object"),
    (with_probe(axis="localty"), "probes[0].axis", "unknown_axis", "did you mean 'locality'"),
    (with_probe(answer="x"), "probes[0].answer", "unknown_key", "did you mean 'answers'"),
    (with_probe(answers=[]), "probes[0].answers", "no_answers", "locality can"),
    (with_probe(answers=["Japan", ""]), "probes[0].answers[1]", "empty", "write some text"),
    (with_probe(answers=[1]), "probes[0].answers[0]", "wrong_type", "1 (number)"),
    (with_probe(answers=1), "probes[0].answers", "wrong_type", "string or a list"),
    (with_probe(unwanted="JAPAN"), "probes[0].unwanted", "answer_unwanted", "'japan'"),
    (with_probe(prompt="  "), "probes[0].prompt", "empty", "write some text"),
    ({**GOOD, "probes": [PROBE, PROBE]}, "probes[1]", "duplicate_probe", "probes[0]"),
    (
        with_probe(axis="reliability", prompt="Lyon is in", unwanted="France"),
        "probes[0]",
        "duplicate_probe",
        "own question",
    ),
    (b'{"prompt": "a", "target_new": "\\ud800"}', "target_new", "broken_text", "surrogate"),
]


@pytest.mark.parametrize(("record", "field", "kind", "said"), BAD, ids=lambda v: str(v)[:40])
def test_every_fault_is_named(tmp_path, record, field, kind, said):
    path = write(tmp_path / "a.jsonl", {**GOOD, "subject": "Nice"}, record)
    with pytest.raises(DataError) as caught:
        read_edits(path)
    message = str(caught.value)
    place = f"{path}:2: {field}" if field else f"{path}:2: "
    assert place in message
    assert said in message
    assert f"{kind} 1" in message
    read = read_edits(path, skip_bad=True)
    assert [request.subject for request in read.requests] == ["Nice"]
    (fault,) = read.faults
    assert (fault.file, fault.line, fault.field, fault.kind) == (str(path), 2, field, kind)


def test_contradictions_and_duplicates_name_both_lines(tmp_path):
    second = {**GOOD, "prompt": "Lyon  IS in", "target_new": "Peru"}
    third = {**GOOD, "target_new": "JAPAN"}
    path = write(tmp_path / "a.jsonl", {**GOOD, "subject": "Nice"}, GOOD, second, third)
    read = read_edits(path, skip_bad=True)
    assert len(read.requests) == 2
    assert [(f.line, f.kind) for f in read.faults] == [(3, "contradiction"), (4, "duplicate")]
    assert "line 2, which gives 'Japan'" in read.faults[0].message
    assert "line 2" in read.faults[1].message


def test_a_fact_may_be_edited_again_on_purpose(tmp_path):
    second, third = {**GOOD, "target_new": "Peru", "again": True}, {**with_probe(), "again": True}
    path = write(tmp_path / "a.jsonl", GOOD, second, third, {**GOOD, "again": True})
    read = read_edits(path, skip_bad=True)
    assert [r.target_new for r in read.requests] == ["Japan", "Peru", "Japan"]
    assert [(f.line, f.kind, f.position) for f in read.faults] == [
        (2, "contradiction", 1),
        (3, "repeated", 2),
        (4, "duplicate", None),
    ]
    assert write_edits(read.requests, tmp_path / "b.jsonl") == 3
    assert read_edits(tmp_path / "b.jsonl").requests == read.requests
    assert '"again"' not in (tmp_path / "b.jsonl").read_text().splitlines()[0]


def test_the_same_prompt_of_two_subjects_is_no_contradiction(tmp_path):
    path = write(tmp_path / "a.jsonl", GOOD, {**GOOD, "subject": "Nice", "target_new": "Peru"})
    assert len(read_edits(path).requests) == 2


def test_many_faults_are_counted_and_the_first_are_listed(tmp_path):
    path = write(tmp_path / "a.jsonl", *[{}] * (SHOWN + 5))
    with pytest.raises(DataError) as caught:
        read_edits(path)
    message = str(caught.value)
    assert "25 bad records (missing 25)" in message
    assert f"{path}:{SHOWN}:" in message
    assert f"{path}:{SHOWN + 1}:" not in message
    assert message.endswith("and 5 more")


def test_missing_and_empty_files_say_so(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_edits(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_bytes(b"\n")
    with pytest.raises(DataError, match="holds no edit"):
        read_edits(tmp_path / "empty.jsonl")


words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="{}"), min_size=1
).filter(lambda text: text == text.strip() and text.casefold() not in ("", "old"))
answers = st.lists(words, min_size=1, max_size=3, unique=True).map(tuple)
probes = st.builds(
    Probe.of, st.sampled_from(AXES), words, answers, facet=st.one_of(st.just(""), words)
)
made = st.builds(
    lambda subject, before, after, new, asked, relation: EditRequest.of(
        subject, f"{before}{{}} {after}", new, "old", asked, relation
    ),
    words,
    words,
    words,
    words,
    st.lists(probes, max_size=3, unique_by=lambda probe: probe.probe_id),
    st.one_of(st.just(""), words),
)


@settings(max_examples=60, deadline=None)
@given(made)
def test_what_is_written_reads_back_equal(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    assert write_edits([request], path) == 1
    assert read_edits(path).requests == (request,)


def test_a_case_and_what_a_probe_needs_are_kept(tmp_path):
    known = {"axis": "condition", "prompt": "The money of Japan is", "answers": "yen"}
    asked = {"axis": "portability", "prompt": "The money of Lyon is", "answers": "yen"}
    record = {**GOOD, "case": "7", "probes": [{**asked, "needs": [1]}, known]}
    requests = read_edits(write(tmp_path / "a.jsonl", record)).requests
    condition = Probe.of("condition", "The money of Japan is", ["yen"])
    wanted = Probe.of("portability", "The money of Lyon is", ["yen"], needs=[condition.probe_id])
    assert requests[0].probes == (wanted, condition)
    assert requests[0].case == "7"
    write_edits(requests, tmp_path / "b.jsonl")
    assert read_edits(tmp_path / "b.jsonl").requests == requests


@pytest.mark.parametrize("needs", [[0], [2], [True], ["1"], [-1]])
def test_what_is_needed_has_to_be_a_condition(tmp_path, needs):
    known = {"axis": "condition", "prompt": "The money of Japan is", "answers": "yen"}
    record = {**GOOD, "probes": [{**PROBE, "needs": needs}, known]}
    with pytest.raises(DataError, match=r"no_condition 1(.|\n)*probes\[0\].needs(.|\n)*places: 1"):
        read_edits(write(tmp_path / "a.jsonl", record))


def test_cases_may_edit_one_fact_to_different_targets(tmp_path):
    records = [{**GOOD, "case": "1"}, {**GOOD, "case": "2"}, {**GOOD, "case": "3"}]
    records[2]["target_new"] = "Peru"
    assert len(read_edits(write(tmp_path / "a.jsonl", *records)).requests) == 3
    records[2]["case"] = "1"
    with pytest.raises(DataError, match="contradicts line 1"):
        read_edits(write(tmp_path / "a.jsonl", *records))
