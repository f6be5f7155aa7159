"""Measurements that come as dictionaries give the files that texts give."""

import polars as pl

from editsweep.report.compare import Side, compare
from editsweep.report.results import MEASURED, Results
from editsweep.report.write import write_report


def files(folder, results):
    write_report(folder, results)
    return {path.name: path.read_bytes() for path in folder.glob("[a-z]*.*")}


def test_the_report_is_the_same(synthetic):
    sweep = synthetic()
    store = sweep.commit()
    whole = Results.of(sweep.plan, store.tables())
    kinds, narrow = ("edits", "measurements"), {"measurements": MEASURED}
    coded = Results.of(
        sweep.plan,
        store.tables(kinds=kinds, narrow=narrow),
        lambda units: pl.DataFrame(store.table("answers", units)),
    )
    assert isinstance(coded.measurements.schema["axis"], pl.Categorical)
    assert files(sweep.folder, whole) == files(sweep.folder, coded)
    a, b = (
        compare(*(Side(label, made.plan, made.edits, made.measurements) for label in ("ft", "ike")))
        for made in (whole, coded)
    )
    assert a.equals(b)
