"""The headline for terminal and page."""

import io

import polars as pl
from rich.console import Console

from editsweep.report.columns import HEADLINE
from editsweep.report.view import columns_of, headline, terminal_table


def board(**changes: object) -> pl.DataFrame:
    rows = [
        {
            "cell_id": f"c{i}",
            "label": f"[red]cell {i}",
            "model": "m",
            "dataset": "d",
            "regime": "single",
            "axis": column.axis,
            "metric": column.metric,
            "protocol": "t",
            "phase": "post",
            "mean": mean,
            "ci_low": mean - 0.1,
            "ci_high": mean + 0.1,
            "interval": "wilson",
            "n": 9,
            "asked": 10,
            "failed": 1,
            "missing": 3,
            **changes,
        }
        for i, mean in enumerate((0.5, 0.75))
        for column in HEADLINE[:2]
    ]
    return pl.DataFrame(rows)


def test_the_best_of_what_can_be_compared() -> None:
    titles, rows = headline(board())
    assert titles == ("Reliability", "Paraphrase", "Reverse", "Portability", "Locality")
    assert [[n.best for n in row.numbers[:2]] for row in rows] == [[False] * 2, [True] * 2]
    assert rows[0].numbers[4].text == "–"
    assert (rows[0].edits, rows[0].failed, rows[0].missing) == (10, 1, 3)
    apart = board().with_columns(dataset=pl.col("cell_id"))
    assert not any(n.best for row in headline(apart)[1] for n in row.numbers)


def test_two_protocols_are_two_columns() -> None:
    both = pl.concat([board(), board(protocol="g", mean=0.1)]).sort("cell_id", maintain_order=True)
    titles, rows = headline(both)
    assert titles[:3] == ("Reliability (g)", "Reliability (t)", "Paraphrase (g)")
    assert [n.mean for n in rows[0].numbers[:2]] == [0.1, 0.5]


def test_the_terminal_shows_label_mean_and_interval() -> None:
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(terminal_table(board()))
    text = capture.get()
    assert "[red]cell 0" in text
    assert "0.750" in text
    assert "0.65 – 0.85" in text


def test_the_score_has_a_column_where_it_was_measured() -> None:
    score = board(axis="overall", metric="harmonic_mean").unique("cell_id", maintain_order=True)
    both = pl.concat([board(), score]).sort("cell_id", maintain_order=True)
    titles, rows = headline(both)
    assert titles[-1] == "Score S"
    assert [row.numbers[-1].mean for row in rows] == [0.5, 0.75]
    assert headline(board(), columns_of(both))[1][0].numbers[-1].text == "–"
