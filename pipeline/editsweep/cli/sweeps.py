"""`plan` and `run`."""

from pathlib import Path
from typing import Annotated

import typer

from editsweep.cli.options import (
    OUT,
    Address,
    Executor,
    Folder,
    GpusPerWorker,
    Json,
    Limit,
    MaxFailures,
    MetricsPort,
    Record,
    Settings,
    SkipBad,
    SweepFile,
    Threads,
    TrackingUri,
    UnitTimeout,
    Workers,
)
from editsweep.cli.planned import show_plan
from editsweep.cli.show import as_json, console


def plan(
    sweep: SweepFile,
    settings: Settings = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    out: Annotated[
        Path, typer.Option(help="Where `run` puts results; what is done there takes no time.")
    ] = OUT,
    workers: Annotated[
        int | None, typer.Option(help="Workers to reckon with; those of this machine if not given.")
    ] = None,
    gpus_per_worker: GpusPerWorker = None,
    json: Json = False,
) -> None:
    """Say what a sweep would do: cells, units, what has to be made first, how long. Runs nothing."""
    from editsweep.run.forecast import forecast
    from editsweep.run.plan import make_plan
    from editsweep.run.resolve import resolve
    from editsweep.run.sweep import load_sweep
    from editsweep.run.untrained import trained_first

    made = make_plan(resolve(load_sweep(sweep, settings or (), limit, skip_bad)))
    cached, time = forecast(made, out / made.name, workers, gpus_per_worker)
    if json:
        as_json({**made.to_json(), "cached": cached.to_json(), "estimate": time.to_json()})
        return
    show_plan(made, cached, time)
    noted = (*made.trusted, *made.left_out, *made.noted, *made.conflicts)
    for line in (*noted, *trained_first(made)):
        console.print(line, markup=False, soft_wrap=True)


def run(
    sweep: SweepFile,
    out: Annotated[Path, typer.Option(help="Results go to OUT/<name of the sweep>.")] = OUT,
    executor: Annotated[
        Executor, typer.Option(help="ray: several workers; inline: this process.")
    ] = Executor.ray,
    workers: Workers = None,
    threads: Threads = None,
    gpus_per_worker: GpusPerWorker = None,
    address: Address = None,
    settings: Settings = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    record: Record = True,
    tracking_uri: TrackingUri = None,
    max_failures: MaxFailures = None,
    unit_timeout: UnitTimeout = None,
    metrics_port: MetricsPort = None,
) -> None:
    """Run a sweep, or go on with it: the same command continues where it stopped.

    Exit codes: 0 complete, 1 failed or too many failed edits, 2 wrong use, 3 complete with failed
    edits, 75 interrupted.
    """
    from editsweep.cli.results import print_board
    from editsweep.run.budget import Budget
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
        max_failures=None if max_failures is None else Budget.parse(max_failures),
        gpus_per_worker=gpus_per_worker,
        unit_timeout=unit_timeout,
        metrics_port=metrics_port,
    )
    with shown(console) as progress:
        result = run_sweep(checked, out / checked.name, options, progress)
    for kind in result.error_kinds:
        console.print(kind.line(result.folder), markup=False, soft_wrap=True)
    if result.exit_code == INTERRUPTED:
        console.print(f"Interrupted; the same command goes on. So far: {result.folder}")
    elif result.over_budget:
        console.print(
            f"{result.over_budget}. See: editsweep status {result.folder}. Mend it, then give the "
            f"same command; `editsweep retry {result.folder}` has the failed ones done again."
        )
    else:
        print_board(result.folder)
        console.print(f"{result.edits} edits, {result.edits_failed} failed: {result.folder}")
    raise typer.Exit(result.exit_code)


def retry(
    folder: Folder,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="failed: whatever failed (the default); or kinds of error, e.g. worker_died.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Have failed edits done again, with the others of their units, by the next `run`."""
    from dataclasses import asdict

    from editsweep.run.retry import ANY, take_back

    back = take_back(folder, only or [ANY])
    if json:
        as_json(asdict(back))
        return
    console.print(
        f"{back.edits} failed edits in {back.units} units are taken back"
        + ("; the same run command does them again." if back.units else ".")
    )
    if back.kept:
        console.print(
            f"{back.kept} failed edits of sequences stay, since what came after was made on top of "
            "them; run the sweep under another name to do such a sequence again."
        )
