import gzip
import json

import pytest

from editsweep.core.types import EditRequest
from editsweep.data.fields import Problem
from editsweep.data.files import read_values
from editsweep.data.registry import load, show
from editsweep.errors import DataError

FLAT = {
    "case_id": 0,
    "subject": "Lyon",
    "prompt": "Lyon lies in",
    "target_new": "Japan",
    "ground_truth": "France",
}


def save(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def values(path, data):
    return list(read_values(save(path / "a.json", data)))


@pytest.mark.parametrize("many", [1, 3, 5000])
@pytest.mark.parametrize("packed", [False, True])
def test_lines_arrays_and_objects_over_several_lines_hold_the_same(tmp_path, many, packed):
    records = [{"n": i, "text": "é\n[{,}]" * (i % 9), "x": [1, {"y": None}]} for i in range(many)]
    lines = "".join(json.dumps(r, ensure_ascii=i % 2 == 0) + "\n" for i, r in enumerate(records))
    texts = {
        "lines": lines,
        "gaps": lines.replace("\n", "\r\n\r\n"),
        "mark": "\ufeff" + lines,
        "array": json.dumps(records),
        "indented": "\ufeff\n" + json.dumps(records, indent=1, ensure_ascii=False),
        "objects": "\n".join(json.dumps(record, indent=2) for record in records),
    }
    for name, text in texts.items():
        data = text.encode("utf-8")
        path = save(tmp_path / name, gzip.compress(data, 1) if packed else data)
        assert [value for _, value in read_values(path)] == records, name


def test_lines_are_counted(tmp_path):
    assert [line for line, _ in values(tmp_path, "\n{}\n\n{}\n")] == [2, 4]
    assert [line for line, _ in values(tmp_path, "[\n{\n},\n\n{}, {}]\n")] == [2, 5, 5]
    assert [line for line, _ in values(tmp_path, "{\n}\n\n{\n}")] == [1, 4]
    long = ",\n".join(json.dumps({"a": "x" * 5000}) for _ in range(50))
    assert [line for line, _ in values(tmp_path, f"[{long}]")] == list(range(1, 51))


@pytest.mark.parametrize("text", ["", "\n \n", "[]", " [ ] ", "\ufeff"])
def test_nothing_is_nothing(tmp_path, text):
    assert values(tmp_path, text) == []
    with pytest.raises(DataError, match=r"a\.json: holds no edit"):
        load("counterfact-flat", path=tmp_path / "a.json")


def test_numbers_at_the_end_of_a_part_are_whole(tmp_path):
    numbers = [int("1" * (i % 40 + 1)) for i in range(5000)]
    assert [value for _, value in values(tmp_path, json.dumps(numbers))] == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1},\n{"a": 2},\n{"a": ', r":3: not JSON: .*fetch the whole file"),
        ('[{"a": 1},\n{"a": "x', r":2: not JSON"),
        ('[{"a": 1},\n{"a": 2}\n', r":3: the file ends inside its array"),
        ('[{"a": 1},\n', r":2: .*fetch the whole file|:2: the file ends"),
        ("[", r":1: the file ends inside its array"),
        ("[1, 2,\n]", r":2: a comma before the end"),
        ("[1\n 2]", r":2: no comma between"),
        ("[1]\n\n[2]", r":3: more text after the end"),
        ("[1,\nx]", r":2: not JSON"),
        ('[1,\n{"a": 1, "a": 2}]', r":2: a: stands twice"),
        ("[" * 100_000, r":1: nested too deeply"),
        (b'[1,\n"\xff"]', r":2: not UTF-8 \(here is 0xff\)"),
        (b'[1,\n"\xe4\xb8', r":2: not UTF-8"),
        ("{\n1: 2}", r":2: not JSON"),
        (f"[{'1' * 5000}]", r":1: not JSON that can be read"),
    ],
)
def test_a_damaged_array_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        values(tmp_path, text)


def test_a_damaged_line_is_not_the_end(tmp_path):
    bad = ['{"a": ', "[1" + "0" * 5000, '{"a": "\x00"}', '{"a": 1, "a": 2}', "{'a': 1}"]
    found = values(tmp_path, "{}\n" + "\n".join(bad[:1] + bad[2:]) + "\n{}\n")
    assert [line for line, _ in found] == [1, 2, 3, 4, 5, 6]
    assert [v.kind for _, v in found[1:-1]] == [
        *["invalid_json"] * 2,
        "repeated_key",
        "invalid_json",
    ]
    assert all(isinstance(value, Problem) for _, value in found[1:-1])


def test_gzip_that_is_none_or_is_damaged(tmp_path):
    with pytest.raises(DataError, match=r"a\.json\.gz: is not gzip"):
        list(read_values(save(tmp_path / "a.json.gz", "{}\n")))
    packed = gzip.compress(json.dumps(list(range(100_000))).encode())
    for damaged in (packed[:-9], packed[:100], packed[:500] + b"\x00" * 50 + packed[550:]):
        with pytest.raises(DataError, match=r"b: (damaged gzip|cannot be read)|b:1: not"):
            list(read_values(save(tmp_path / "b", damaged)))


def test_what_cannot_be_opened(tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(DataError, match="cannot be read"):
            list(read_values(path))


def test_odd_texts_are_kept_as_they_are(tmp_path):
    odd = {
        "long": "x" * 1_000_000,
        "nul": "a\x00b",
        "right to left": "הבירה של \u202eצרפת",
        "joined": "👩‍👩‍👧 é e\u0301",
        "line": "a\u2028b\u0085c",
    }
    records = [{**FLAT, "target_new": text} for text in odd.values()]
    path = save(tmp_path / "a.json", json.dumps(records, ensure_ascii=False))
    data = load("counterfact-flat", path=path)
    assert [request.target_new for request in data.requests] == list(odd.values())
    assert [fault.kind for fault in data.faults] == ["contradiction"] * 4
    assert max(len(str(fault)) for fault in data.faults) < 1000


def test_two_records_with_one_id_are_two_edits(tmp_path):
    other = {**FLAT, "subject": "Porto", "prompt": "Porto lies in"}
    data = load("counterfact-flat", path=save(tmp_path / "a.json", json.dumps([FLAT, other])))
    edit = EditRequest.of("Lyon", "{} lies in", "Japan", "France", relation="{} lies in")
    assert data.requests[0] == edit
    assert (len(data.requests), data.faults) == (2, ())


@pytest.mark.parametrize("value", [1, "text", None, [], [[]], True, 1.5])
def test_what_is_no_record_is_named(tmp_path, value):
    path = save(tmp_path / "a.json", json.dumps([FLAT, value]))
    with pytest.raises(DataError, match=r"a\.json:1: .*write an object"):
        load("counterfact-flat", path=path)
    card = show("counterfact-flat", path)
    assert (card["records"], card["left_out"]) == (1, {"wrong_type": 1})
