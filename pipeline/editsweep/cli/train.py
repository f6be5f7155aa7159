"""`train`: the network of one editor for one model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from editsweep.cli.options import (
    OUT,
    Address,
    Executor,
    Json,
    Settings,
    Threads,
    TrackingUri,
    Workers,
)
from editsweep.cli.show import as_json, as_table, console

AXES = ("reliability", "paraphrase", "portability", "locality")


def train(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The training file (YAML).")],
    executor: Annotated[
        Executor | None,
        typer.Option(help="inline: this process; ray: also several. By the number of workers."),
    ] = None,
    workers: Workers = None,
    threads: Threads = None,
    address: Address = None,
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="MLflow's file lies in OUT, as for `run`.")] = OUT,
    record: Annotated[bool, typer.Option(help="Record the training in MLflow.")] = True,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Train the network of an editor, or go on with it; sweeps find it in the cache.

    Exit codes: 0 trained or found, 1 failed, 2 wrong use, 75 interrupted.
    """
    from rich.console import Console

    from editsweep.run.drive import INTERRUPTED
    from editsweep.run.progress import shown
    from editsweep.run.train import TrainOptions, run_training, training_job
    from editsweep.run.training_file import load_training

    job = training_job(load_training(spec, settings or ()))
    options = TrainOptions(
        executor=None if executor is None else executor.value,
        workers=workers,
        threads=threads,
        address=address,
        record=record,
        tracking_uri=tracking_uri,
        out=out,
    )
    with shown(Console(stderr=True, highlight=False) if json else console) as progress:
        result = run_training(job, options, progress)
    if result.asset is None:
        console.print("Interrupted; the same command goes on from there.")
        raise typer.Exit(INTERRUPTED)
    told = _told(job, result)
    if json:
        as_json(told)
    else:
        _print(told)


def _told(job: Any, result: Any) -> dict[str, Any]:
    meta = result.asset.meta
    return {
        "name": job.name,
        "editor": job.editor.name,
        "model": job.model.entry.name,
        "key": result.key,
        "found": result.found,
        "steps": round(meta["curve"][-1]["step"]),
        "best_step": meta["best_step"],
        "records": meta["split"]["learnable"],
        "test": meta["test"],
    }


def _print(told: dict[str, Any]) -> None:
    if told["found"]:
        console.print("Nothing to do: this network is in the cache.")
    records = told["records"]
    as_table(
        ("on records never seen", "rate"),
        [(axis, f"{told['test'][axis]:.3f}") for axis in AXES if axis in told["test"]],
        title=f"{told['editor']} for {told['model']}",
    )
    console.print(
        f"best at step {told['best_step']} of {told['steps']}; {records['train']:,} records to "
        f"learn from, {records['validation']:,} to validate, {records['test']:,} to test\n"
        f"network {told['key']}",
        markup=False,
    )
