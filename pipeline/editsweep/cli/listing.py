"""`datasets`, `editors` and `models`: what there is, by name."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from editsweep.cli.options import Json
from editsweep.cli.show import as_json, as_table, console
from editsweep.errors import DataError

datasets = typer.Typer(help="List, show or check datasets.", invoke_without_command=True)

RELATIONS = 20
"""So many are shown, those with the most edits; in some sets nearly every edit has its own."""

DataName = Annotated[str, typer.Argument(help="A dataset's name, NAME@FILE, or a .jsonl file.")]
DataPath = Annotated[
    Path | None, typer.Option("--path", help="Read these files in place of the shipped ones.")
]


@datasets.callback()
def _datasets(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_datasets(json=False)


@datasets.command("list")
def list_datasets(json: Json = False) -> None:
    """Every dataset with its splits."""
    from editsweep.data import registry

    rows: list[dict[str, Any]] = [
        {"name": n, "splits": list(registry.splits(n)), "needs_file": registry.needs_file(n)}
        for n in registry.DATASETS.names()
    ]
    if json:
        as_json(rows)
        return
    table = [
        (r["name"], ", ".join(r["splits"]), f"{r['name']}@FILE" if r["needs_file"] else "shipped")
        for r in rows
    ]
    as_table(("dataset", "splits", "data"), table)


@datasets.command()
def show(name: DataName, path: DataPath = None, json: Json = False) -> None:
    """Records, probes by axis and facet, and faults of one dataset."""
    from editsweep.data import registry

    card = registry.show(name, path)
    if json:
        as_json(card)
        return
    console.print(f"{card['name']}: {card['records']:,} edits ({card['licence'] or 'no licence'})")
    console.print(card["source"], markup=False)
    as_table(("split", "edits", "digest"), _splits(card))
    probes = [(a, f or "–", n) for a, facets in card["probes"].items() for f, n in facets.items()]
    as_table(("axis", "facet", "probes"), probes)
    relations = sorted(card["relations"].items(), key=lambda item: -item[1])
    as_table(("relation", "edits"), relations[:RELATIONS])
    if len(relations) > RELATIONS:
        console.print(
            f"and {len(relations) - RELATIONS:,} more relations (all of them with --json)"
        )
    if card["faults"]:
        rows = [(k, n, card["left_out"].get(k, 0)) for k, n in card["faults"].items()]
        as_table(("fault", "found", "left out"), rows)


@datasets.command()
def validate(name: DataName, path: DataPath = None, json: Json = False) -> None:
    """Name file, line and field of all that is wrong. Exit code 2 if a record must be left out."""
    from editsweep.data import registry

    faults = [
        fault
        for split in registry.splits(name)
        for fault in registry.load(name, split, path=path, skip_bad=True).faults
    ]
    if json:
        as_json([{f.name: getattr(fault, f.name) for f in fields(fault)} for fault in faults])
    else:
        for fault in faults:
            lead = "" if fault.position is None else "kept: "
            console.print(f"{lead}{fault}", markup=False, soft_wrap=True)
    left_out = sum(fault.position is None for fault in faults)
    if left_out:
        raise DataError(f"{name}: {left_out} bad records")
    if not json:
        console.print(f"{name}: {len(faults) or 'no'} faults")


def editors(json: Json = False) -> None:
    """Every editor with its regimes and hyperparameters."""
    from editsweep.editors import EDITORS
    from editsweep.errors import EditSweepError
    from editsweep.run.resolve import usual

    rows: list[dict[str, Any]] = []
    for name in EDITORS.names():
        try:
            spec = EDITORS.load(name)
        except (ImportError, EditSweepError) as error:
            rows.append({"name": name, "error": str(error)})
            continue
        defaults = {k: None if v is MISSING else v for k, v in usual(spec).items()}
        summary = (spec.__doc__ or "").strip().splitlines()[0]
        rows.append(
            {
                "name": name,
                "regimes": sorted(spec.regimes),
                "hyperparameters": defaults,
                "about": summary,
            }
        )
    if json:
        as_json(rows)
        return
    as_table(
        ("editor", "regimes", "hyperparameters"),
        [
            (
                row["name"],
                ", ".join(row.get("regimes", ())),
                row.get("error")
                or ", ".join(f"{k}={v}" for k, v in row["hyperparameters"].items()),
            )
            for row in rows
        ],
    )


def models(json: Json = False) -> None:
    """Every model of the catalogue; a sweep may also name a folder, or owner/name@commit."""
    from editsweep.model.catalogue import listing

    rows = listing()
    if json:
        as_json(rows)
        return
    as_table(
        ("model", "source", "dtype", "licence", "notes"),
        [(r["name"], r["source"], r["dtype"], r["licence"], r["notes"]) for r in rows],
    )


def _splits(card: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(split, count, card["digests"][split]) for split, count in card["splits"].items()]
