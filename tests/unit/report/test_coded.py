"""Values by edit from arrays are those of plain loops, whatever the order of the rows."""

import numpy as np
import polars as pl

from editsweep.report import coded
from editsweep.report.coded import Rows, per_edit

NAMES = ("probe_id", "axis", "facet", "metric", "protocol", "phase")


def tables(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    rows = {name: rng.choice(["b", "a", "ß"], 200) for name in (*NAMES, "cell_id", "edit_id")}
    values = np.where(rng.random(200) < 0.1, np.nan, rng.integers(0, 8, 200) / 8)
    measured = pl.DataFrame(rows).with_columns(value=pl.Series(values), unit_id=pl.lit("u"))
    edits = measured.select("cell_id", "edit_id").unique()
    return measured, edits.with_columns(subject=pl.lit(None, pl.String))


def test_it_is_the_mean_over_probes_in_any_order(monkeypatch) -> None:
    measured, edits = tables(0)
    expected: dict[tuple[str, ...], list[float]] = {}
    for row in measured.iter_rows(named=True):
        values = expected.setdefault(tuple(row[n] for n in ("cell_id", "axis", "edit_id")), [])
        values += [] if np.isnan(row["value"]) else [row["value"]]
    means = {key: sum(v) / len(v) if v else None for key, v in expected.items()}
    found = []
    for most in (2**62, 1):  # the second sorts in two steps, as keys that do not fit one number
        monkeypatch.setattr(coded, "_MOST", most)
        for shuffled in (measured, measured.sample(fraction=1, shuffle=True, seed=1)):
            rows = Rows.of(shuffled, edits)
            found.append(per_edit(rows, ("axis",)).frame(rows))
    assert all(frame.equals(found[0]) for frame in found)
    columns = found[0].select("cell_id", "axis", "edit_id", "value").rows()
    assert {tuple(row[:3]): row[3] for row in columns} == means
    assert [row[:3] for row in columns] == sorted(row[:3] for row in columns)


def test_categorical_columns_give_the_same_and_so_do_chosen_edits() -> None:
    measured, edits = tables(1)
    texts = pl.col(*NAMES, "cell_id", "edit_id", "unit_id").cast(pl.Categorical)
    plain = Rows.of(measured, edits)
    small = Rows.of(
        measured.with_columns(texts),
        edits.with_columns(pl.col("cell_id", "edit_id").cast(pl.Categorical)),
    )
    wanted = (plain.edits["edit_id"] == "a").to_numpy()
    chosen = per_edit(plain, ("axis",)).of_edits(wanted).frame(plain)
    assert chosen.equals(per_edit(small, ("axis",)).of_edits(wanted).frame(small))
    assert set(chosen["edit_id"]) == {"a"}
    nothing = Rows.of(measured.clear(), edits.clear())
    assert per_edit(nothing, ("axis",)).frame(nothing).is_empty()
