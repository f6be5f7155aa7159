"""`plan` and `run`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from editsweep.cli.options import Json, Limit, Settings, SkipBad, SweepFile, TrackingUri
from editsweep.cli.show import as_json, as_table, console

OUT = Path("runs")


class Executor(StrEnum):
    """Where units run."""

    ray = "ray"
    inline = "inline"


def plan(
    sweep: SweepFile,
    settings: Settings = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    json: Json = False,
) -> None:
    """Say what a sweep would do: cells, units, what has to be made first. Runs nothing."""
    from editsweep.run.plan import make_plan
    from editsweep.run.resolve import resolve
    from editsweep.run.sweep import load_sweep

    made = make_plan(resolve(load_sweep(sweep, settings or (), limit, skip_bad)))
    if json:
        as_json(made.to_json())
        return
    units = {cell_id: [u for u in made.units if u.cell_id == cell_id] for cell_id in made.cells}
    as_table(
        ("cell", "model", "dataset", "regime", "seed", "edits", "units"),
        [
            (
                cell.label,
                cell.model.entry.name,
                f"{cell.records.data.name}:{cell.records.data.split}",
                str(cell.regime),
                cell.seed,
                len(cell.records.data.requests),
                len(units[cell_id]),
            )
            for cell_id, cell in made.cells.items()
        ],
        title=f"{made.name} ({made.sweep_id[:12]})",
    )
    edits = sum(unit.stop - unit.start for unit in made.units)
    console.print(
        f"{len(made.cells)} cells, {len(made.units)} units, {edits} edits; first "
        f"{len(made.assets)} assets and the unedited model's answers in {len(made.bases)} slices"
    )
    for line in (*made.left_out, *made.noted):
        console.print(line, markup=False)


def run(
    sweep: SweepFile,
    out: Annotated[Path, typer.Option(help="Results go to OUT/<name of the sweep>.")] = OUT,
    executor: Annotated[
        Executor, typer.Option(help="ray: several workers; inline: this process.")
    ] = Executor.ray,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; chosen if not given.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each worker.")] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster; one of our own if not given.")
    ] = None,
    settings: Settings = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    record: Annotated[bool, typer.Option(help="Record the results in MLflow.")] = True,
    tracking_uri: TrackingUri = None,
) -> None:
    """Run a sweep, or go on with it: the same command continues where it stopped.

    Exit codes: 0 complete, 1 failed, 2 wrong use, 3 complete with failed edits, 75 interrupted.
    """
    from editsweep.cli.results import print_board
    from editsweep.run.drive import INTERRUPTED, RunOptions, run_sweep
    from editsweep.run.progress import shown
    from editsweep.run.sweep import load_sweep

    checked = load_sweep(sweep, settings or (), limit, skip_bad)
    options = RunOptions(
        executor=executor.value,
        workers=workers,
        threads=threads,
        address=address,
        record=record,
        tracking_uri=tracking_uri,
    )
    with shown(console) as progress:
        result = run_sweep(checked, out / checked.name, options, progress)
    if result.exit_code == INTERRUPTED:
        console.print(f"Interrupted; the same command goes on. So far: {result.folder}")
    else:
        print_board(result.folder)
        console.print(f"{result.edits} edits, {result.edits_failed} failed: {result.folder}")
    raise typer.Exit(result.exit_code)
