"""`submit`, and `job` for what was submitted to Ray."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from editsweep.cli.options import (
    OUT,
    GpusPerWorker,
    Json,
    Limit,
    MaxFailures,
    MetricsPort,
    Record,
    Settings,
    SkipBad,
    SweepFile,
    UnitTimeout,
)
from editsweep.cli.show import as_json, console

job = typer.Typer(help="Look at a sweep that was submitted to a Ray cluster, or end it.")


class To(StrEnum):
    """Where a sweep is submitted."""

    ray = "ray"
    slurm = "slurm"
    kuberay = "kuberay"


With = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="KEY=VALUE", help="A setting of the target, e.g. nodes=4."),
]
JobId = Annotated[str, typer.Argument(metavar="ID", help="The job's id, as `submit` says it.")]
Dashboard = Annotated[
    str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard.")
]
HERE = "http://127.0.0.1:8265"


def submit(
    sweep: SweepFile,
    to: Annotated[To, typer.Option(help="ray: Ray Jobs; slurm: sbatch; kuberay: a RayJob.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be submitted, and end.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Results go to OUT/<name of the sweep>.")] = OUT,
    settings: Settings = None,
    limit: Limit = None,
    skip_bad: SkipBad = False,
    target_settings: With = None,
    gpus_per_worker: GpusPerWorker = None,
    unit_timeout: UnitTimeout = None,
    max_failures: MaxFailures = None,
    metrics_port: MetricsPort = None,
    record: Record = True,
    tracking_uri: Annotated[
        str | None, typer.Option(help="Where MLflow keeps the job's runs; as in `run`.")
    ] = None,
    json: Json = False,
) -> None:
    """Hand a sweep to a scheduler, after it was checked as `plan` does.

    Options that are also `run`'s are given to it.

    Exit codes: 0 submitted or there already, 1 not taken, 2 wrong use.
    """
    from editsweep.launch.flags import Flags
    from editsweep.launch.job import make_job, make_target

    flags = Flags(
        record=record,
        tracking_uri=tracking_uri,
        max_failures=max_failures,
        gpus_per_worker=gpus_per_worker,
        unit_timeout=unit_timeout,
        metrics_port=metrics_port,
    )
    target = make_target(to.value, target_settings or ())
    made = make_job(sweep, out, settings or (), limit, skip_bad, flags)
    if dry_run:
        print(target.render(made), end="")
        return
    done = target.submit(made)
    if json:
        as_json(
            {
                "to": to.value,
                "job_id": done.job_id,
                "status": done.status,
                "already": done.already,
                "sweep_id": made.sweep_id,
                "out": str(out / made.name),
            }
        )
        return
    what = "there already" if done.already else "submitted"
    lines = (f"{done.job_id}: {what} ({done.status})", *(f"  {line}" for line in done.follow))
    console.print("\n".join(lines), markup=False, soft_wrap=True)


@job.command()
def status(job_id: JobId, address: Dashboard = HERE, json: Json = False) -> None:
    """Say where a job stands."""
    from editsweep.launch.ray_jobs import job_status

    found = job_status(job_id, address)
    if json:
        as_json(found)
    else:
        console.print(f"{job_id}: {found['status']}", markup=False, soft_wrap=True)
        console.print(found["message"] or "", markup=False, soft_wrap=True)


@job.command()
def logs(job_id: JobId, address: Dashboard = HERE) -> None:
    """Print what a job has printed so far."""
    from editsweep.launch.ray_jobs import job_logs

    print(job_logs(job_id, address), end="")


@job.command()
def cancel(job_id: JobId, address: Dashboard = HERE) -> None:
    """End a job that `submit` started; the same submission goes on with it later."""
    from editsweep.launch.ray_jobs import cancel_job

    ended = cancel_job(job_id, address)
    console.print(f"{job_id}: {'asked to end' if ended else 'has ended already'}", markup=False)
