"""`datasets`, `editors` and `models`: what there is, by name."""

from collections import Counter
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from editsweep.cli.options import Json, SkipBad
from editsweep.cli.show import as_json, as_table, console
from editsweep.errors import ConfigError, DataError

datasets = typer.Typer(help="List, show or check datasets.", invoke_without_command=True)

RELATIONS = 20
"""So many are shown, those with the most edits; in some sets nearly every edit has its own."""

DataName = Annotated[
    str, typer.Argument(help="A dataset's name, NAME@FILE, or a .jsonl or .arrow file.")
]
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
    told = "not read" if card["records"] is None else f"{card['records']:,} edits"
    console.print(f"{card['name']}: {told} ({card['licence'] or 'no licence'})")
    console.print(card["source"], markup=False)
    _show_manifest(card["manifest"] or {})
    if card["records"] is None:
        console.print(f"name a file of it with --path, or: editsweep datasets fetch {name}")
        return
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

    faults = registry.faults(name, path)
    if json:
        as_json([{f.name: getattr(fault, f.name) for f in fields(fault)} for fault in faults])
    else:
        for fault in faults:
            lead = "" if fault.position is None else "kept: "
            console.print(f"{lead}{fault}", markup=False, soft_wrap=True)
        kinds = sorted(Counter(fault.kind for fault in faults).items())
        told = ", ".join(f"{kind} {count}" for kind, count in kinds)
        count = f"{name}: {len(faults) or 'no'} faults"
        console.print(f"{count} ({told})" if told else count, markup=False, soft_wrap=True)
    left_out = sum(fault.position is None for fault in faults)
    if left_out:
        raise DataError(f"{name}: {left_out} bad records")


@datasets.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A published dataset's name.")],
    file: Annotated[
        str | None, typer.Option(help="Which of its files; the first if not given.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="A commit of its repository in place of the pinned one.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="A folder, in place of the cache.")
    ] = None,
    json: Json = False,
) -> None:
    """Get a published file from the Hugging Face hub; from then on its NAME is enough."""
    from editsweep.data.fetching import fetch as get

    got = get(name, file, revision, to)
    if json:
        as_json(
            {
                "path": str(got.path),
                "revision": got.revision,
                "sha256": got.sha256,
                "checked": got.checked,
            }
        )
        return
    known = "as pinned" if got.checked else "no hash is pinned for it"
    console.print(f"{got.path}\nsha256 {got.sha256} ({known})", markup=False, soft_wrap=True)


@datasets.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file in a published structure.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="The dataset that it is of.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="A .jsonl or .arrow file; NAME.jsonl here if not given."),
    ] = None,
    skip_bad: SkipBad = False,
    json: Json = False,
) -> None:
    """Write the edits of a published file in our own format; its faults are listed."""
    from editsweep.data import registry
    from editsweep.data.own_format import write_edits

    target = out or Path(f"{name}.jsonl")
    if target.exists():
        raise ConfigError(f"{target} is there already; name another file with --out")
    data = registry.load(name, registry.splits(name)[0], path=file, skip_bad=skip_bad)
    written = write_edits(data.requests, target)
    kinds = dict(sorted(Counter(fault.kind for fault in data.faults).items()))
    if json:
        as_json({"path": str(target), "records": written, "faults": kinds})
        return
    for fault in data.faults:
        lead = "" if fault.position is None else "kept: "
        console.print(f"{lead}{fault}", markup=False, soft_wrap=True)
    told = f"{target}: {written:,} edits, {len(data.faults) or 'no'} faults"
    console.print(told, markup=False, soft_wrap=True)


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


def _show_manifest(manifest: dict[str, Any]) -> None:
    """What is known of the published files, and of those that were looked through."""
    if manifest.get("citation"):
        console.print(", ".join(manifest["citation"]))
    for file in manifest.get("published", ()):
        console.print(file["url"], markup=False, soft_wrap=True)
        console.print(f"  sha256 {file['sha256'] or ''} {file['sha256_from']}", markup=False)
    for counted in manifest.get("counted", ()):
        told = ", ".join(f"{kind} {count}" for kind, count in counted["faults"].items())
        console.print(
            f"counted in {counted['file']}: {counted['records']:,} edits, {told or 'no faults'}",
            markup=False,
        )


def _splits(card: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(split, count, card["digests"][split]) for split, count in card["splits"].items()]
