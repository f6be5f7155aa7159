import pyarrow as pa
import pytest

from editsweep.core import schema

MEASURED = {
    "sweep_id": "s",
    "cell_id": "c",
    "unit_id": "u",
    "edit_id": "e",
    "probe_id": "p",
    "axis": "locality",
    "facet": "",
    "metric": "accuracy",
    "protocol": "exact_match",
    "phase": "post",
    "value": 1.0,
    "status": "ok",
}
SCORED = {
    "edit_id": "e",
    "probe_id": "p",
    "role": "answer",
    "text": "東京",
    "token_ids": [5, 7],
    "logprobs": [-0.5, -1.25],
    "argmax": [5, 9],
    "said": "東",
    "spoke": True,
    "kl": 0.0,
}


def test_rows_come_back_with_the_whole_schema():
    made = schema.table(schema.MEASUREMENTS, [MEASURED])
    assert made.schema.equals(schema.MEASUREMENTS, check_metadata=True)
    assert made.to_pylist() == [MEASURED]


def test_a_missing_value_is_null():
    made = schema.table(
        schema.MEASUREMENTS, [{**MEASURED, "value": None, "status": "failed"}, MEASURED]
    )
    assert made["value"].to_pylist() == [None, 1.0]
    bare = {key: value for key, value in MEASURED.items() if key != "value"}
    assert schema.table(schema.MEASUREMENTS, [bare])["value"].to_pylist() == [None]


@pytest.mark.parametrize("name", [f.name for f in schema.MEASUREMENTS if not f.nullable])
def test_a_required_value_that_is_missing_is_an_error(name):
    with pytest.raises(pa.ArrowInvalid):
        schema.table(schema.MEASUREMENTS, [{**MEASURED, name: None}])


@pytest.mark.parametrize("name", [f.name for f in schema.MEASUREMENTS if not f.nullable])
def test_a_required_column_that_is_missing_is_an_error(name):
    bare = {key: value for key, value in MEASURED.items() if key != name}
    with pytest.raises(pa.ArrowInvalid):
        schema.table(schema.MEASUREMENTS, [bare])


def test_a_value_of_the_wrong_type_is_an_error():
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        schema.table(schema.MEASUREMENTS, [{**MEASURED, "value": "high"}])


@pytest.mark.parametrize("part", [*schema.PARTS.values(), schema.BASE])
def test_no_rows_are_still_a_table(part):
    empty = schema.table(part, [])
    assert empty.num_rows == 0
    assert schema.from_ipc(schema.to_ipc(empty)).schema.equals(part, check_metadata=True)


def test_ipc_brings_back_the_same_table():
    made = schema.table(schema.BASE, [SCORED] * 300)
    back = schema.from_ipc(schema.to_ipc(made))
    assert back.equals(made, check_metadata=True)
    assert back.schema.metadata == {b"schema_version": b"2"}


def test_the_same_table_is_the_same_bytes():
    made = schema.table(schema.BASE, [SCORED] * 10)
    assert schema.to_ipc(made) == schema.to_ipc(schema.table(schema.BASE, [SCORED] * 10))


def test_a_file_cut_anywhere_is_an_error():
    whole = schema.to_ipc(schema.table(schema.BASE, [SCORED] * 50))
    for length in range(0, len(whole), 37):
        with pytest.raises((pa.ArrowInvalid, OSError)):
            schema.from_ipc(whole[:length])


@pytest.mark.parametrize("part", schema.PARTS.values())
def test_every_part_has_the_keys_and_each_name_once(part):
    keys = ["sweep_id", "cell_id", "unit_id", "edit_id"]
    assert part.names[:4] == keys
    assert not any(part.field(key).nullable for key in keys)
    assert len(set(part.names)) == len(part.names)


@pytest.mark.parametrize("part", [*schema.PARTS.values(), schema.BASE])
def test_every_duration_and_size_states_its_unit(part):
    for field in part:
        if field.name.endswith(("_s", "_bytes", "logprobs")):
            assert field.metadata, field.name
            assert field.metadata[b"unit"], field.name
