"""The Arrow schemas of everything on disk; a field's unit stands in its metadata.

`edits` has one row an edit and cell, `measurements` one row a number, `answers` one row a
continuation that was scored. `base` holds what the unedited model said, shared by all cells.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa

VERSION = 2

_INTS = pa.list_(pa.int32())
_FLOATS = pa.list_(pa.float32())


def _field(name: str, type_: pa.DataType, unit: str = "", nullable: bool = True) -> pa.Field:
    return pa.field(name, type_, nullable, {"unit": unit} if unit else None)


def _schema(*fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={"schema_version": str(VERSION)})


_KEYS = (
    _field("sweep_id", pa.string(), nullable=False),
    _field("cell_id", pa.string(), nullable=False),
    _field("unit_id", pa.string(), nullable=False),
    _field("edit_id", pa.string(), nullable=False),
)
_PROBE = (
    _field("probe_id", pa.string(), nullable=False),
    _field("axis", pa.string(), nullable=False),
    _field("facet", pa.string(), nullable=False),
)
_CONTINUATION = (
    _field("role", pa.string(), "answer | unwanted | reference | text", nullable=False),
    _field("text", pa.string(), nullable=False),
    _field("token_ids", _INTS, nullable=False),
)

EDITS = _schema(
    *_KEYS,
    _field("position", pa.int64(), "index in the dataset slice", nullable=False),
    _field("group", pa.int64(), "index of the edit job in the cell", nullable=False),
    _field("subject", pa.string()),
    _field("prompt", pa.string(), nullable=False),
    _field("target_new", pa.string(), nullable=False),
    _field("target_true", pa.string()),
    _field("relation", pa.string(), nullable=False),
    _field("case", pa.string(), "edits of one case belong together; empty for none"),
    _field("known", pa.bool_(), "the unedited model greedily says target_true; null without one"),
    _field("status", pa.string(), "ok | failed", nullable=False),
    _field("error_kind", pa.string()),
    _field("error_text", pa.string()),
    _field("edit_s", pa.float64(), "s, share of the unit's editing time"),
    _field("probe_s", pa.float64(), "s, share of the unit's asking time"),
    _field("steps", pa.int32(), "optimisation steps"),
    _field("loss", pa.float64(), "nats, last value"),
    _field("patch_norm", pa.float64(), "Frobenius norm over all touched matrices"),
    _field("patch_rank", pa.int32()),
    _field("patch_bytes", pa.int64(), "B"),
)

MEASUREMENTS = _schema(
    *_KEYS,
    *_PROBE,
    _field("metric", pa.string(), nullable=False),
    _field("protocol", pa.string(), nullable=False),
    _field("phase", pa.string(), "pre | post | retained", nullable=False),
    _field("value", pa.float64()),
    _field("status", pa.string(), "ok, or why there is no value", nullable=False),
)

ANSWERS = _schema(
    *_KEYS,
    *_PROBE,
    _field("needs", pa.list_(pa.string()), "probe ids of its conditions; null or empty: none"),
    _field("prompt", pa.string(), nullable=False),
    *_CONTINUATION,
    _field("pre_logprobs", _FLOATS, "nats a token", nullable=False),
    _field("pre_argmax", _INTS, "token ids", nullable=False),
    _field("pre_said", pa.string(), "its own text, or the argmax tokens", nullable=False),
    _field("pre_spoke", pa.bool_(), "whether that is its own text", nullable=False),
    _field("pre_kl", pa.float64(), "nats, from the unedited model's next token; null if not asked"),
    _field("post_logprobs", _FLOATS, "nats a token; null when the edit failed"),
    _field("post_argmax", _INTS, "token ids; null when the edit failed"),
    _field("post_said", pa.string(), "null when the edit failed"),
    _field("post_spoke", pa.bool_(), "null when the edit failed"),
    _field("post_kl", pa.float64(), "nats, as pre_kl"),
)

BASE = _schema(
    _field("edit_id", pa.string(), nullable=False),
    _field("probe_id", pa.string(), nullable=False),
    *_CONTINUATION,
    _field("logprobs", _FLOATS, "nats a token", nullable=False),
    _field("argmax", _INTS, "token ids", nullable=False),
    _field("said", pa.string(), nullable=False),
    _field("spoke", pa.bool_(), nullable=False),
    _field("kl", pa.float64(), "nats"),
)

TRACES = _schema(
    _field("fact_id", pa.string(), nullable=False),
    _field("prompt", pa.string(), nullable=False),
    _field("subject", pa.string(), nullable=False),
    _field("answer", pa.string(), "the traced token as text", nullable=False),
    _field("kind", pa.string(), "state | mlp | attention", nullable=False),
    _field("token_index", pa.int32(), "place in the prompt, from 0", nullable=False),
    _field("token", pa.string(), nullable=False),
    _field("role", pa.string(), "what the token is to the subject", nullable=False),
    _field("layer", pa.int32(), "block, middle of the window", nullable=False),
    _field("probability", pa.float64(), "of the answer, restored here", nullable=False),
    _field("low", pa.float64(), "probability, corrupted", nullable=False),
    _field("clean", pa.float64(), "probability, clean", nullable=False),
    _field("effect", pa.float64(), "probability - low", nullable=False),
)

ROLES = _schema(
    _field("kind", pa.string(), "state | mlp | attention", nullable=False),
    _field("role", pa.string(), "what the token is to the subject", nullable=False),
    _field("layer", pa.int32(), "block, middle of the window", nullable=False),
    _field("effect", pa.float64(), "probability - low, mean over facts", nullable=False),
    _field("ci_low", pa.float64(), "95 % interval, normal; null with one fact"),
    _field("ci_high", pa.float64(), "95 % interval, normal; null with one fact"),
    _field("n", pa.int64(), "facts with a token of this role", nullable=False),
)

PARTS: Mapping[str, pa.Schema] = {
    "edits": EDITS,
    "measurements": MEASUREMENTS,
    "answers": ANSWERS,
}

# Columns that came after version 1, with what stands in them where an older part is read.
LATER: Mapping[str, Any] = {
    "pre_spoke": False,
    "pre_kl": None,
    "post_spoke": False,
    "post_kl": None,
    "needs": [],
    "case": "",
}


def fitted(found: pa.Table, wanted: pa.Schema) -> pa.Table:
    """`found` with exactly the schema `wanted`; what came `LATER` is filled in.

    Raises:
        ValueError: another column is missing, is too many or does not fit (ArrowInvalid is one).
    """
    for place, field in enumerate(wanted):
        if field.name in LATER and field.name not in found.schema.names:
            column = pa.array([LATER[field.name]] * found.num_rows, field.type)
            found = found.add_column(min(place, found.num_columns), field, column)
    if found.schema.names != wanted.names:
        odd = sorted(set(found.schema.names) ^ set(wanted.names))
        raise ValueError(f"columns do not match the schema: {', '.join(odd) or 'other order'}")
    same = found.schema.equals(wanted, check_metadata=True)
    kept = found if same and _filled(found) else found.cast(wanted)
    kept.validate(full=True)
    return kept


def rows(buffer: bytes, wanted: pa.Schema) -> int:
    """How many rows there are in the IPC file of a table that was made as `wanted`.

    Only a table of another schema is read whole, to see whether it fits: `table` made the others.

    Raises:
        ValueError: the bytes are not a whole IPC file (ArrowInvalid is one), or do not fit.
    """
    with pa.ipc.open_file(pa.BufferReader(buffer)) as reader:
        is_same = reader.schema.equals(wanted, check_metadata=True)
    if not is_same:
        return int(fitted(from_ipc(buffer), wanted).num_rows)
    return int(from_ipc(buffer, wanted.names[:1]).num_rows)


def _filled(found: pa.Table) -> bool:
    """Whether no column lacks a value that it must have."""
    columns = zip(found.schema, found.columns, strict=True)
    return not any(column.null_count for field, column in columns if not field.nullable)


def table(schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """`rows` as a table of exactly `schema`; a missing field is null.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit, or a required one is missing.
    """
    made = pa.Table.from_pylist(list(rows), schema=schema)
    made.validate(full=True)  # does not look at nulls
    for field, column in zip(schema, made.columns, strict=True):
        if column.null_count and not field.nullable:
            raise pa.ArrowInvalid(f"{field.name} is required, {column.null_count} rows have none")
    return made


def coded(data: pa.Table) -> pa.Table:
    """`data` with its texts as dictionaries."""
    columns = {
        field.name: column.dictionary_encode() if pa.types.is_string(field.type) else column
        for field, column in zip(data.schema, data.columns, strict=True)
    }
    return pa.table(columns)


def to_ipc(data: pa.Table) -> bytes:
    """`data` as one Arrow IPC file (zstd), which has a footer, so a cut one is an error."""
    return to_ipc_files({"": data.schema}, [{"": data}])[""]


def to_ipc_files(
    schemas: Mapping[str, pa.Schema], slices: Iterable[Mapping[str, pa.Table]]
) -> dict[str, bytes]:
    """Several tables that come in slices, each as one IPC file; a slice is written as it comes."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    sinks = {name: pa.BufferOutputStream() for name in schemas}
    with ExitStack() as held:
        writers = {
            name: held.enter_context(pa.ipc.new_file(sinks[name], kind, options=options))
            for name, kind in schemas.items()
        }
        for part in slices:
            for name, writer in writers.items():
                writer.write_table(part[name])
    return {name: bytes(sink.getvalue().to_pybytes()) for name, sink in sinks.items()}


def from_ipc(buffer: bytes, columns: Sequence[str] = ()) -> pa.Table:
    """The table in one Arrow IPC file, or these columns of it, in its own order.

    Raises:
        pyarrow.ArrowInvalid: the bytes are not a whole IPC file.
        ValueError: it lacks one of the columns.
    """
    # Parts are small: handing their columns to threads costs more than it saves.
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if columns:
        with pa.ipc.open_file(pa.BufferReader(buffer)) as reader:
            names = reader.schema.names
        options.included_fields = sorted(names.index(name) for name in columns)
    with pa.ipc.open_file(pa.BufferReader(buffer), options=options) as reader:
        return reader.read_all()
