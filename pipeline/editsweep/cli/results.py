"""`status`, `report`, `record` and `ui`: what is done with a folder of results. No torch, no ray."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editsweep.cli.options import Folder, Json, Known, KnownOnly, TrackingUri
from editsweep.cli.show import as_json, as_table, console, table_out
from editsweep.errors import StoreError

if TYPE_CHECKING:
    from editsweep.report.results import Results


def status(
    folder: Folder,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show it until the run ends; Ctrl-C ends only this.")
    ] = False,
    error_kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="List the failed edits of this kind of error instead."),
    ] = None,
    json: Json = False,
) -> None:
    """Say how far a sweep is, from what is committed in its folder."""
    from editsweep.run import status as of
    from editsweep.run.error_kinds import ErrorKind
    from editsweep.run.progress import shown

    if error_kind is not None:
        _failed_edits(folder, error_kind, json)
        return

    if follow:
        with shown(console) as progress:
            for now in of.follow(folder):
                progress.update(now)
    found = of.read_status(folder)
    if json:
        as_json(found)
        return
    as_table(
        ("cell", "edits", "done", "failed"),
        [(c["label"], c["edits"], c["done"], c["failed"]) for c in found["cells"]],
        title=f"{found['name']}: {found['state']}",
    )
    for kind in found["error_kinds"]:
        console.print(ErrorKind(**kind).line(folder), markup=False, soft_wrap=True)
    for warning in found["warnings"]:
        console.print(f"warning: {warning}", markup=False)


def _failed_edits(folder: Path, kind: str, json: bool) -> None:
    from editsweep.run.status import failed_edits

    rows = failed_edits(folder, kind)
    if json:
        as_json(rows)
        return
    as_table(
        ("cell", "position", "edit", "reason"),
        [(row["cell"], row["position"], row["edit_id"], row["error_text"]) for row in rows],
        title=f"{len(rows)} edits failed: {kind}",
    )
    again = f"editsweep retry {folder} --only {kind}"
    console.print(f"To have them done again: {again}", markup=False, soft_wrap=True)


def report(folder: Folder, known: KnownOnly = None, json: Json = False) -> None:
    """Write the tables and report.html anew from what is committed, and print the headline."""
    from editsweep.run import publish

    results = publish.results_of(folder)
    board, page = publish.report(folder, results)
    if json:
        rows = publish.board(results, folder, _wanted(known)).to_dicts()
        cases = results.cases.to_dicts()
        as_json({"leaderboard": str(board), "report": str(page), "rows": rows, "cases": cases})
        return
    print_board(folder, known, results)
    console.print(f"{board}\n{page}", markup=False)


def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="FOLDER:LABEL of a cell, e.g. runs/demo:rome.")
    ],
    second: Annotated[
        str, typer.Argument(metavar="B", help="Another; a bare LABEL is of the same folder.")
    ],
    difference: Annotated[
        float,
        typer.Option(min=1e-4, help="Say how many edits a difference of this size would need."),
    ] = 0.05,
    every: Annotated[bool, typer.Option("--all", help="Every metric, not the headline.")] = False,
    known: KnownOnly = None,
    json: Json = False,
) -> None:
    """Compare two cells on the edits that both have: difference, 95 % interval, p."""
    from editsweep.run import publish

    rows = publish.compared(first, second, difference, not every, _wanted(known)).to_dicts()
    if json:
        as_json(rows)
        return
    as_table(
        ("axis", "metric", "n", "A", "B", "A − B", "95 %", "p", "p (Holm)", "test", "needed"),
        [_compared(row) for row in rows],
        title=f"A {first}, B {second}; needed: edits to see a difference of {difference:g}",
    )


def _compared(row: dict[str, Any]) -> tuple[Any, ...]:
    span = "–" if row["ci_low"] is None else f"{row['ci_low']:+.3f} – {row['ci_high']:+.3f}"
    needed = "–" if row["needed"] is None else row["needed"]
    means = f"{row['a']:.3f}", f"{row['b']:.3f}", f"{row['difference']:+.3f}"
    name = (
        row["metric"]
        if row["metric"] == row["protocol"]
        else f"{row['metric']} ({row['protocol']})"
    )
    ps = f"{row['p']:.2g}", f"{row['p_holm']:.2g}"
    return (row["axis"], name, row["n"], *means, span, *ps, row["test"], needed)


def record(
    folder: Folder,
    tracking_uri: TrackingUri = None,
    experiment: Annotated[str, typer.Option(help="The experiment's name.")] = "editsweep",
    json: Json = False,
) -> None:
    """Bring the sweep's runs in MLflow up to date; again does no harm."""
    from editsweep.run import publish

    result = publish.record(folder, tracking_uri, experiment)
    if not result.recorded:
        raise StoreError(f"not recorded in {result.tracking_uri}: {result.reason}")
    if json:
        as_json({key: getattr(result, key) for key in result.__dataclass_fields__})
        return
    console.print(
        f"{result.created} runs made, {result.updated} brought up to date in {result.tracking_uri}",
        markup=False,
    )


def ui(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A sweep's folder.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Or the folder of all sweeps.")] = Path("runs"),
    tracking_uri: TrackingUri = None,
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
) -> None:
    """Serve MLflow's pages of the sweeps on this machine only (127.0.0.1), until Ctrl-C."""
    from importlib.util import find_spec

    from editsweep.errors import ConfigError
    from editsweep.store.tracking import default_uri, ui_command

    if find_spec("mlflow") is None:
        raise ConfigError("ui needs mlflow: pip install 'editsweep[mlflow]'")
    uri = tracking_uri or default_uri(folder or out / "any")
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not path.exists():
        raise StoreError(f"{path} is not there: run or record a sweep first, or give its folder")
    command = ui_command(uri, port)
    console.print(f"http://127.0.0.1:{port} (Ctrl-C to end)")
    os.execvp(command[0], command)


def print_board(folder: Path, known: Known | None = None, results: "Results | None" = None) -> None:
    """The headline of the leaderboard on the terminal; `results` are those of the folder."""
    from editsweep.report.view import terminal_table
    from editsweep.run import publish

    of = {None: "", Known.yes: ", facts the model knew", Known.no: ", facts the model did not know"}
    title = f"After the edit, with 95 % intervals{of[known]}"
    results = results or publish.results_of(folder)
    table_out(terminal_table(publish.board(results, folder, _wanted(known)), title))


def _wanted(known: Known | None) -> bool | None:
    return None if known is None else known is Known.yes
