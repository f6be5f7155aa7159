import pyarrow as pa
import pytest

from editsweep.data.arrow_file import ROWS, SCHEMA, read_rows, write_rows
from editsweep.data.own_format import read_edits, write_edits
from editsweep.data.registry import load
from editsweep.errors import DataError

GOOD = {"subject": "Lyon", "prompt": "{} is in", "target_new": "Japan", "target_true": "France"}


def save(path, *records):
    write_rows(records, path)
    return path


def test_edits_come_back_equal_in_the_same_order(tmp_path):
    requests = (*load("lecture").requests, *load("world", limit=50).requests)
    assert write_edits(requests, tmp_path / "a.arrow") == len(requests)
    assert read_edits(tmp_path / "a.arrow").requests == requests
    assert load(str(tmp_path / "a.arrow")).requests == requests


def test_rows_are_written_and_read_in_batches(tmp_path):
    made = iter({**GOOD, "subject": f"Lyon {i}"} for i in range(2 * ROWS + 1))
    path = tmp_path / "a.arrow"
    assert write_rows(made, path) == 2 * ROWS + 1
    with pa.ipc.open_file(path) as file:
        assert file.num_record_batches == 3
    assert [row for row, _ in read_rows(path)] == list(range(1, 2 * ROWS + 2))
    assert read_edits(path).requests[-1].subject == f"Lyon {2 * ROWS}"


def test_a_fact_may_be_edited_again_on_purpose(tmp_path):
    path = save(tmp_path / "a.arrow", GOOD, {**GOOD, "target_new": "Peru", "again": True})
    read = read_edits(path)
    write_edits(read.requests, tmp_path / "b.arrow")
    assert [r.target_new for r in read_edits(tmp_path / "b.arrow").requests] == ["Japan", "Peru"]


def test_faults_are_told_with_their_row(tmp_path):
    bad = {**GOOD, "target_new": "france"}
    path = save(tmp_path / "a.arrow", GOOD, bad, {"prompt": "Water is", "target_new": "dry"})
    with pytest.raises(DataError, match=r"a\.arrow:2: target_new: .*no.*|change something"):
        read_edits(path)
    read = read_edits(path, skip_bad=True)
    assert [(f.line, f.kind) for f in read.faults] == [(2, "no_op")]
    assert len(read.requests) == 2


@pytest.mark.parametrize("keep", [6, 0.5, -1])
def test_a_cut_file_is_told(tmp_path, keep):
    path = save(tmp_path / "a.arrow", *[GOOD] * 3)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep == 0.5 else keep])
    with pytest.raises(DataError, match=r"a\.arrow: damaged Arrow file"):
        list(read_rows(path))


def test_columns_that_are_not_ours_are_told_with_the_nearest_of_ours(tmp_path):
    schema = pa.schema(
        [pa.field("target_nw" if f.name == "target_new" else f.name, f.type) for f in SCHEMA]
    )
    table = pa.Table.from_pylist([{"prompt": "Water is", "target_nw": "dry"}], schema)
    with pa.ipc.new_file(tmp_path / "a.arrow", schema) as file:
        file.write_table(table)
    with pytest.raises(DataError, match=r"a\.arrow:1: target_nw: .*'target_new'"):
        read_edits(tmp_path / "a.arrow")
