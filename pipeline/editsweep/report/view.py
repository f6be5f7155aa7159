"""The headline of a leaderboard: one row a cell, for a terminal and for the page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from editsweep.report.columns import HEADLINE, Column

if TYPE_CHECKING:
    from rich.table import Table

# Only cells that share these can be compared, so the best is marked among them.
_COMPARABLE = ("model", "dataset", "regime")


@dataclass(frozen=True)
class Number:
    """A mean with its interval; all None where nothing was measured."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    n: int = 0
    best: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Number":
        """The number in one row of a leaderboard."""
        return cls(row["mean"], row["ci_low"], row["ci_high"], row["interval"], row["n"])

    @property
    def text(self) -> str:
        """The mean with three decimals, or a dash."""
        return "–" if self.mean is None else f"{self.mean:.3f}"

    @property
    def span(self) -> str:
        """The interval with two decimals; empty without one."""
        return "" if self.low is None else f"{self.low:.2f} – {self.high:.2f}"

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1, so that it can be drawn on a scale."""
        return self.low is not None and self.high is not None and 0 <= self.low <= self.high <= 1


class Shown(NamedTuple):
    """A column of the headline as it is shown; `protocol` is empty where nothing was measured."""

    title: str
    column: Column
    protocol: str


@dataclass(frozen=True)
class Row:
    """One cell: its names, its headline numbers, and how many edits stand behind them."""

    cell: Mapping[str, Any]
    numbers: tuple[Number, ...]
    edits: int
    failed: int
    missing: int | None


def columns_of(board: pl.DataFrame) -> list[Shown]:
    """The headline's columns for this board.

    A headline metric that was measured under several protocols has a column for each.
    """
    return [
        Shown(column.title if len(found) < 2 else f"{column.title} ({protocol})", column, protocol)
        for column in HEADLINE
        for found in [_protocols(board, column)]
        for protocol in found or [""] * column.always
    ]


def headline(
    board: pl.DataFrame, columns: Sequence[Shown] | None = None
) -> tuple[tuple[str, ...], list[Row]]:
    """Column titles and rows of the headline, in the order of the plan.

    `columns` are those of another board, for tables that stand side by side.
    """
    shown = columns_of(board) if columns is None else columns
    rows = []
    for _, group in groupby(board.iter_rows(named=True), key=lambda row: row["cell_id"]):
        lines = list(group)
        after = {
            (line["axis"], line["metric"], line["protocol"]): Number.of(line)
            for line in lines
            if line["phase"] == "post"
        }
        numbers = tuple(
            after.get((column.axis, column.metric, protocol), Number())
            for _, column, protocol in shown
        )
        edits = max(line["asked"] for line in lines)
        rows.append(Row(lines[0], numbers, edits, lines[0]["failed"], lines[0]["missing"]))
    return tuple(title for title, _, _ in shown), list(_with_best(rows))


def terminal_table(
    board: pl.DataFrame, title: str = "After the edit, with 95 % intervals"
) -> "Table":
    """The headline as a table for a terminal; the best of each column is bold."""
    # Only the terminal needs rich, and importing it draws from the global random numbers.
    from rich.table import Table

    columns = columns_of(board)
    _, rows = headline(board, columns)
    table = Table(title=title, title_justify="left")
    table.add_column("cell", overflow="fold")
    for column in columns:
        table.add_column(f"{column.title.lower()}\n[dim]{column.column.metric}[/]", justify="right")
    for title in ("edits", "failed", "missing"):
        table.add_column(title, justify="right")
    for row in rows:
        shown = [
            (f"[bold]{n.text}[/]" if n.best else n.text) + (f"\n[dim]{n.span}[/]" if n.span else "")
            for n in row.numbers
        ]
        missing = "–" if row.missing is None else str(row.missing)
        label = str(row.cell["label"]).replace("[", r"\[")
        table.add_row(label, *shown, str(row.edits), str(row.failed), missing)
    return table


def _protocols(board: pl.DataFrame, column: Column) -> list[str]:
    found = board.filter(
        pl.col("axis") == column.axis,
        pl.col("metric") == column.metric,
        pl.col("phase") == "post",
    )
    return sorted(found["protocol"].unique())


def _with_best(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows with the highest mean of each column marked, among those that can be compared."""
    best: dict[tuple[Any, ...], float] = {}
    rivals: dict[tuple[Any, ...], int] = {}
    for row in rows:
        for place, number in enumerate(row.numbers):
            key = (place, *(row.cell[name] for name in _COMPARABLE))
            rivals[key] = rivals.get(key, 0) + 1
            if number.mean is not None:
                best[key] = max(number.mean, best.get(key, number.mean))
    for row in rows:
        numbers = []
        for place, number in enumerate(row.numbers):
            key = (place, *(row.cell[name] for name in _COMPARABLE))
            wins = number.mean is not None and number.mean == best[key] and rivals[key] > 1
            numbers.append(replace(number, best=wins))
        yield replace(row, numbers=tuple(numbers))
