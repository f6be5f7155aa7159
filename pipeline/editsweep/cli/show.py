"""Printing: tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 140
console = Console(highlight=False)


def as_json(value: object) -> None:
    """Print `value` as JSON that people can read too."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def as_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print rows under their columns; numbers to the right, long text wrapped."""
    kept = [[_text(value) for value in row] for row in rows]
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for place, name in enumerate(columns):
        numbers = all(_is_number(row[place]) for row in kept)
        table.add_column(name, justify="right" if numbers and kept else "left", overflow="fold")
    for row in kept:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    table_out(table)


def table_out(table: Table) -> None:
    """Print a table: as wide as the terminal, or wide enough for a file."""
    (console if console.is_terminal else Console(highlight=False, width=WIDTH)).print(table)


def _text(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "").isdigit() or not text
