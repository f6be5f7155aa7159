"""What every dataset that is read from a file, and our own format, does with bad files."""

import gzip
import json

import pytest

from editsweep.data.own_format import as_record
from editsweep.data.registry import DATASETS, faults, load, needs_file
from editsweep.errors import DataError

OWN = "own"
NAMES = [OWN, *(name for name in DATASETS.table if needs_file(name))]
EACH = pytest.mark.parametrize("name", NAMES)


def save(tmp_path, data, end=""):
    path = tmp_path / f"bad.jsonl{end}"
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return path


def read(name, path, **options):
    return load(str(path), **options) if name == OWN else load(name, path=path, **options)


def faults_of(name, path):
    return faults(str(path)) if name == OWN else faults(name, path)


@EACH
@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("", "holds no edit"),
        ("\ufeff\n\n", "holds no edit"),
        ("[]", None),
        ('{"a": 1}\n{"subject": "x', ":2: not JSON"),
        ('[{"a": 1},\n{"a": ', ":2: not JSON"),
        ('[{"a": 1},\n', "fetch the whole file|file ends inside"),
        (b'{"a": "\xff\xfe"}\n', ":1: not UTF-8: byte 8"),
        (b'[\n"\xff"]', ":2: not UTF-8"),
        ('{"a": "x\x00y"}\n', ":1: not JSON"),
        ('{"a": 1, "a": 2}\n', ":1: a: stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ("7\nnull\ntrue\n", ":3: "),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_damaged_file_is_refused_with_its_line(name, tmp_path, data, told):
    path = save(tmp_path, data)
    with pytest.raises(DataError, match=told) as caught:
        read(name, path)
    assert "bad.jsonl" in str(caught.value)
    assert len(str(caught.value)) < 10_000


@EACH
def test_gzip_that_is_none_or_is_cut_off(name, tmp_path):
    with pytest.raises(DataError, match=r"bad\.jsonl\.gz: is not gzip"):
        load("counterfact-flat" if name == OWN else name, path=save(tmp_path, "{}\n", ".gz"))
    packed = gzip.compress(json.dumps([{"n": i} for i in range(5000)]).encode())
    with pytest.raises(DataError, match="damaged gzip"):
        read(name, save(tmp_path, packed[:-20]))


TEXTS = ("subject", "prompt", "target_new", "src", "alt", "requested_rewrite", "ent", "text")
TEXTS += ("question", "answer", "update", "en", "attribute", "probes", "pos")


@EACH
@pytest.mark.parametrize("value", [7, None, [1], {"x": {}}, True])
def test_records_of_wrong_types_are_left_out_by_line(name, tmp_path, value):
    line = json.dumps(dict.fromkeys(TEXTS, value) | {"odd": 1}) + "\n"
    found = faults_of(name, save(tmp_path, line * 3))
    assert {fault.line for fault in found if fault.position is None} == {1, 2, 3}
    for fault in found:
        assert fault.file.endswith("bad.jsonl")
        assert fault.kind
        assert len(str(fault)) < 2000


@EACH
def test_of_texts_in_wrong_places_none_is_lost(name, tmp_path):
    line = json.dumps(dict.fromkeys(TEXTS, "x" * 1_000_000)) + "\n"
    path = save(tmp_path, line * 2)
    found = faults_of(name, path)
    lost = {fault.line for fault in found if fault.position is None}
    edits = 0 if len(lost) == 2 else len(read(name, path, skip_bad=True).requests)
    assert edits + len(lost) == 2
    assert max(len(str(fault)) for fault in found) < 2000


ODD = ["x" * 1_000_000, "a\x00b", "הבירה של \u202eצרפת", "👩‍👩‍👧 e\u0301", "a\u2028b", "\u200f؟"]


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text)[:24])
def test_odd_texts_are_edits_like_others(tmp_path, text):
    record = {"subject": "Lyon", "prompt": "Lyon is in", "target_new": text}
    flat, own = save(tmp_path, json.dumps(record) + "\n"), tmp_path / "own.jsonl"
    (request,) = read("counterfact-flat", flat).requests
    assert request.target_new == text
    own.write_text(json.dumps(as_record(request)) + "\n", encoding="utf-8")
    assert read(OWN, own).requests == (request,)


@EACH
def test_a_lone_surrogate_is_no_text(name, tmp_path):
    keys = ("subject", "prompt", "target_new", "src", "alt", "ent", "text", "question", "update")
    found = faults_of(name, save(tmp_path, json.dumps(dict.fromkeys(keys, "\ud800")) + "\n"))
    assert [fault.line for fault in found] == [1]
    assert str(found[0]).encode("utf-8")
