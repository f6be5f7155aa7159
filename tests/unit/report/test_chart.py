"""The chart: the same bytes each time, every cell numbered, no text of the data in it."""

import re
from typing import Any

import polars as pl

from editsweep.report.chart import success_against_locality


def board(cells: list[tuple[str, float, float]]) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for i, (label, success, locality) in enumerate(cells):
        for axis, metric, mean in (
            ("reliability", "exact_match", success),
            ("paraphrase", "exact_match", success - 0.2),
            ("locality", "agreement", locality),
        ):
            ends = {"ci_low": mean - 0.05, "ci_high": mean + 0.05}
            key = {"cell_id": str(i), "label": label, "axis": axis, "metric": metric}
            rows.append({**key, "phase": "post", "mean": mean, **ends})
    return pl.DataFrame(rows)


def test_every_cell_has_a_number_at_its_place() -> None:
    cells = [(f"editor-{i}", 0.95 - 0.05 * (i % 4), 0.9 - 0.1 * (i % 3)) for i in range(12)]
    last = pl.col("label") == "no locality"
    made = board([*cells, ("no locality", 0.9, 0.9)])
    chart = success_against_locality(made.filter(~last | (pl.col("axis") != "locality")))
    assert chart is not None
    assert [(number, label) for number, _, label in chart.key] == [
        (i + 1, label) for i, (label, _, _) in enumerate(cells)
    ]
    found = re.findall(
        r'id="cell-(\d+)">\s*<text [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>(\d+)<', chart.svg
    )
    assert [int(number) for number, _, _, _ in found] == list(range(1, 13))
    assert all(number == shown for number, _, _, shown in found)
    across = [float(x) for _, x, _, _ in found]
    down = [float(y) for _, _, y, _ in found]
    assert sorted(range(12), key=lambda i: across[i]) == sorted(
        range(12), key=lambda i: cells[i][2]
    )
    assert down[0] < down[1] < down[2] < down[3]


def test_the_same_numbers_give_the_same_bytes() -> None:
    made = board([("rome", 0.99, 0.9), ("ft", 0.9, 0.5)])
    assert success_against_locality(made) == success_against_locality(made)


def test_nothing_to_draw() -> None:
    assert success_against_locality(board([("x", 0.5, 0.5)]).clear()) is None
    no_locality = board([("rome", 0.9, 0.9)]).filter(pl.col("axis") != "locality")
    assert success_against_locality(no_locality) is None


def test_no_label_reaches_the_svg() -> None:
    chart = success_against_locality(board([("<script>$x$ 李宏毅 & co", 0.9, 0.9)]))
    assert chart is not None
    assert chart.key == [(1, "var(--s0)", "<script>$x$ 李宏毅 & co")]
    assert "script" not in chart.svg
    assert not re.search(r"#0[1-5]0[01]", chart.svg)
    assert "var(--s0)" in chart.svg
