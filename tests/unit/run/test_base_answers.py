"""Slices of what the unedited model said: found again as they were written, or not at all."""

from editsweep.core import schema
from editsweep.run.base_answers import BaseAnswers


def slice_of(edit):
    row = {"edit_id": edit, "probe_id": "p", "role": "answer", "text": "t", "token_ids": [1]}
    said = {"logprobs": [-1.0], "argmax": [1], "said": "t", "spoke": False}
    return schema.to_ipc(schema.table(schema.BASE, [row | said]))


def test_a_slice_is_found_by_this_run_and_by_the_next(tmp_path):
    bases = BaseAnswers(tmp_path / "base")
    assert bases.find("a") is None
    bases.keep("a", slice_of("e1"))
    for found in (bases, BaseAnswers(tmp_path / "base")):
        assert found.file("a") == slice_of("e1")
        assert found.find("a")["edit_id"].to_pylist() == ["e1"]
        assert found.file("b") is None


def test_damage_is_not_an_answer_and_is_made_good(tmp_path):
    bases = BaseAnswers(tmp_path)
    bases.keep("a", slice_of("e1"))
    (path,) = tmp_path.glob("a.*")
    path.write_bytes(b"torn")
    assert BaseAnswers(tmp_path).find("a") is None
    path.unlink()
    assert bases.find("a") is None
    bases.keep("a", slice_of("e1"))
    assert bases.find("a") is not None
