"""Measurements as arrays of small numbers, so that ten million of them sort and group in seconds.

Every text becomes its place among the distinct ones in their order. So rows sorted by number are
sorted by text, and a sum adds up in one order whatever order the rows came in.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SHARED = ("cell_id", "edit_id")
_TEXTS = (*_SHARED, "unit_id", "probe_id", "axis", "facet", "metric", "protocol", "phase")
_MOST = 2**62


@dataclass(frozen=True)
class Rows:
    """Measurements; all arrays have one value a row.

    Attributes:
        codes: for each column of text, the place of each row's text in `names`.
        names: the distinct texts of each column, in order.
        who: the row's edit, as a row of `edits`; -1 for none.
        value: NaN where there is none.
        edits: the `edits` table, one row a cell and edit.
        cluster: for each row of `edits` the place of its subject among all subjects; an edit
            without one stands alone.
    """

    codes: dict[str, NDArray[np.int32]]
    names: dict[str, list[str]]
    who: NDArray[np.int32]
    value: Floats
    edits: pl.DataFrame
    cluster: Ints

    @classmethod
    def of(cls, measurements: pl.DataFrame, edits: pl.DataFrame) -> "Rows":
        """The rows of two tables; their columns of text may be categorical."""
        edits = edits.unique(["cell_id", "edit_id"], keep="first", maintain_order=True)
        height = measurements.height

        def coded(name: str) -> tuple[NDArray[np.int32], list[str]]:
            column = measurements[name].cast(pl.Categorical)
            if name in _SHARED:
                column = pl.concat([column, edits[name].cast(pl.Categorical)])
            return _coded(column)

        with ThreadPoolExecutor(2) as pool:
            found = dict(zip(_TEXTS, pool.map(coded, _TEXTS), strict=True))
        codes = {name: codes[:height] for name, (codes, _) in found.items()}
        cell, edit = (found[name][0].astype(np.int64) for name in _SHARED)
        both = cell * max(1, len(found["edit_id"][1])) + edit
        value = measurements["value"].to_numpy()
        subjects = pl.coalesce("subject", pl.lit("\0") + pl.col("edit_id").cast(pl.String))
        clusters = edits.select(subjects.cast(pl.Categorical)).to_series()
        return cls(
            codes,
            {name: texts for name, (_, texts) in found.items()},
            _places(both[height:], both[:height]),
            np.where(np.isfinite(value), value, np.nan),
            edits,
            _coded(clusters)[0].astype(np.int64),
        )

    def where(self, mask: Bools) -> "Rows":
        """Only the rows of `mask`."""
        codes = {name: codes[mask] for name, codes in self.codes.items()}
        return replace(self, codes=codes, who=self.who[mask], value=self.value[mask])

    def is_in(self, name: str, texts: Sequence[str]) -> Bools:
        """Which rows have one of these texts in a column."""
        wanted = np.isin(self.names[name], texts) if self.names[name] else np.zeros(0, np.bool_)
        found: Bools = wanted[self.codes[name]]
        return found


@dataclass(frozen=True)
class PerEdit:
    """One value a cell, key and edit: the mean over its probes, NaN if none has a value.

    They stand in runs of one cell and key, and in a run in the order of the edits' ids.

    Attributes:
        names: `cell_id` and the key.
        keys: one row a run: its texts by `names`.
        starts: where each run begins; one more than runs, the last is the end.
        who: each value's edit, as in `Rows`.
        value: the values.
    """

    names: tuple[str, ...]
    keys: list[tuple[str, ...]]
    starts: Ints
    who: NDArray[np.int32]
    value: Floats

    def of_edits(self, wanted: Bools) -> "PerEdit":
        """Only the values of edits that are `wanted`, a mask over rows of `edits`."""
        mask = wanted[self.who] & (self.who >= 0)
        runs = np.repeat(np.arange(len(self.keys)), np.diff(self.starts))[mask]
        left, starts = _runs(runs)
        keys = [self.keys[run] for run in left]
        return replace(self, keys=keys, starts=starts, who=self.who[mask], value=self.value[mask])

    def clusters(self, rows: Rows) -> Ints:
        """Each value's subject; an edit that `rows` has no row of stands alone."""
        if not len(rows.cluster):
            return np.arange(len(self.who), dtype=np.int64)
        alone = len(rows.cluster) + np.arange(len(self.who), dtype=np.int64)
        return np.where(self.who >= 0, rows.cluster[self.who], alone)

    def frame(self, rows: Rows) -> pl.DataFrame:
        """The values as a table: `names`, `edit_id`, `value` and `cluster`, the subject's number."""
        sizes = np.diff(self.starts)
        columns = zip(*self.keys, strict=True) if self.keys else [()] * len(self.names)
        texts = {
            name: np.repeat(np.array(column, dtype=object), sizes)
            for name, column in zip(self.names, columns, strict=True)
        }
        made = pl.DataFrame(texts, schema=dict.fromkeys(self.names, pl.String))
        return made.with_columns(
            rows.edits["edit_id"].cast(pl.String).gather(self.who).alias("edit_id"),
            value=pl.Series(self.value).fill_nan(None),
            cluster=pl.Series(self.clusters(rows)),
        )


def per_edit(rows: Rows, key: Sequence[str]) -> PerEdit:
    """The values of `rows` by cell, key and edit."""
    names = ("cell_id", *key)
    run, texts = _joined(rows, names)
    edits = max(1, len(rows.names["edit_id"]))
    major = run * edits + rows.codes["edit_id"]
    probes = max(1, len(rows.names["probe_id"]))
    minor = rows.codes["facet"].astype(np.int64) * probes + rows.codes["probe_id"]
    order = _order(major, minor, probes * max(1, len(rows.names["facet"])))
    major, value, who = major[order], rows.value[order], rows.who[order]
    found, starts = _runs(major)
    begins = starts[:-1]
    there = np.isfinite(value)
    if len(begins):
        sums = np.add.reduceat(np.where(there, value, 0.0), begins)
        counts = np.add.reduceat(there.astype(np.int64), begins)
    else:
        sums, counts = np.zeros(0), np.zeros(0, np.int64)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    kinds, ends = _runs(found // edits)
    return PerEdit(names, [texts[kind] for kind in kinds], ends, who[begins], means)


def values_of(frame: pl.DataFrame, names: Sequence[str]) -> tuple[PerEdit, Ints]:
    """The rows of a table, which is sorted by `names`, as values, and the subject of each.

    The table has `names`, `value` and `cluster`.
    """
    frame = frame.with_columns(pl.col(*names).cast(pl.String))
    starts = frame.select(pl.struct(*names).rle_id()).to_series().to_numpy().astype(np.int64)
    first = _runs(starts)[1]
    keys = frame.select(*names)[first[:-1]].rows()
    value = frame["value"].fill_null(np.nan).to_numpy()
    who = np.arange(frame.height, dtype=np.int32)
    return PerEdit(tuple(names), keys, first, who, value), _coded(
        frame["cluster"].cast(pl.Categorical)
    )[0].astype(np.int64)


def _coded(column: pl.Series) -> tuple[NDArray[np.int32], list[str]]:
    """Each row's place among the distinct texts, and these in order."""
    distinct = column.unique()
    texts = distinct.cast(pl.String).to_list()
    raw = column.to_physical().to_numpy()
    if not texts:
        return np.zeros(0, np.int32), []
    order = sorted(range(len(texts)), key=texts.__getitem__)
    known = distinct.to_physical().to_numpy()
    place = np.zeros(int(known.max()) + 1, np.int32)
    place[known[order]] = np.arange(len(order), dtype=np.int32)
    found: NDArray[np.int32] = place[raw]
    return found, [texts[i] for i in order]


def _places(keys: Ints, wanted: Ints) -> NDArray[np.int32]:
    """Where each of `wanted` stands in `keys`, which are distinct; -1 for nowhere."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int32)
    order = np.argsort(keys, kind="stable")
    # The rows of an edit mostly stand together, so it is looked up once for them.
    ones, starts = _runs(wanted)
    inside = np.minimum(np.searchsorted(keys[order], ones), len(keys) - 1)
    places = order[inside].astype(np.int32)
    found = np.where(keys[places] == ones, places, np.int32(-1))
    return np.repeat(found, np.diff(starts))


def _joined(rows: Rows, names: Sequence[str]) -> tuple[Ints, list[tuple[str, ...]]]:
    """One small code for several columns, in the order of their texts, and the texts of each."""
    code = np.zeros(len(rows.value), np.int64)
    texts: list[tuple[str, ...]] = [()]
    for name in names:
        width = max(1, len(rows.names[name]))
        code = code * width + rows.codes[name]
        if len(texts) * width > max(1024, len(code) + 1):
            raw, code = np.unique(code, return_inverse=True)
        else:
            seen = np.bincount(code, minlength=1) > 0
            raw = np.flatnonzero(seen)
            code = (np.cumsum(seen) - 1)[code]
        texts = [(*texts[i // width], rows.names[name][i % width]) for i in raw.tolist()]
    return code, texts


def _order(major: Ints, minor: Ints, width: int) -> Ints:
    """The stable order by `major`, then `minor`, which is below `width`."""
    most = int(major.max()) + 1 if len(major) else 1
    if most * width < _MOST:
        return np.argsort(major * width + minor, kind="stable")
    first = np.argsort(minor, kind="stable")
    return first[np.argsort(major[first], kind="stable")]


def _runs(values: Ints) -> tuple[Ints, Ints]:
    """The value of each run of equal ones, and where they begin, with the end."""
    if not len(values):
        return values, np.zeros(1, np.int64)
    begins = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate(([0], begins, [len(values)]))
    return values[starts[:-1]], starts
