"""The records of our own format as rows of an Arrow file, written and read some at a time."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from editsweep.errors import DataError

MAGIC = b"ARROW1"
ROWS = 1000
"""Rows of a batch: so many are in memory at a time."""

_TEXTS = pa.list_(pa.string())
_PROBE = pa.struct(
    {
        "axis": pa.string(),
        "prompt": pa.string(),
        "facet": pa.string(),
        "answers": _TEXTS,
        "unwanted": _TEXTS,
        "needs": pa.list_(pa.int32()),
    }
)
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("subject", "prompt", "target_new", "target_true"), pa.string()),
        **dict.fromkeys(("relation", "case"), pa.string()),
        "again": pa.bool_(),
        "probes": pa.list_(_PROBE),
    }
)


def write_rows(records: Iterable[dict[str, Any]], path: Path) -> int:
    """Write records as they come; how many there were. What a record leaves out is null."""
    count, rest = 0, iter(records)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(path, SCHEMA, options=options) as file:
        while some := list(islice(rest, ROWS)):
            file.write_batch(pa.RecordBatch.from_pylist(some, SCHEMA))
            count += len(some)
    return count


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with its number from 1; what is null is left out, so that it reads as JSON does.

    Raises:
        DataError: the file is damaged.
    """
    row = 0
    try:
        with pa.ipc.open_file(path) as file:
            for place in range(file.num_record_batches):
                for record in file.get_batch(place).to_pylist():
                    row += 1
                    yield row, _without_null(record)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: damaged Arrow file ({error}); write or fetch it again") from error


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(held) for key, held in value.items() if held is not None}
    if isinstance(value, list):
        return [_without_null(held) for held in value]
    return value
