"""`trace`: where a model keeps its facts."""

from pathlib import Path
from typing import Annotated, Any

import typer

from editsweep.cli.options import Json, SkipBad, Threads, TrackingUri
from editsweep.cli.show import as_json, as_table, console
from editsweep.errors import ConfigError

KINDS = "state,mlp,attention"
OUT = Path("runs/trace")

Prompt = Annotated[
    str | None,
    typer.Argument(help='One prompt, subject in braces: "The {Space Needle} is in the city of".'),
]
Subject = Annotated[str | None, typer.Option(help="The subject of PROMPT, in place of braces.")]
Data = Annotated[
    str,
    typer.Option(
        help="Facts to trace: NAME[:SPLIT][@FILE], e.g. known-1000@FILE, or a .jsonl file. With "
        "PROMPT only the size of the noise is taken from it."
    ),
]
Facts = Annotated[int | None, typer.Option(min=1, help="Trace at most so many facts.")]
Every = Annotated[
    bool, typer.Option("--all", help="Also facts whose answer the model does not say.")
]
Sigma = Annotated[
    float | None, typer.Option(min=1e-9, help="σ; of the subjects in --data if not given.")
]


def trace(
    prompt: Prompt = None,
    subject: Subject = None,
    data: Data = "world:test",
    limit: Facts = None,
    every: Every = False,
    skip_bad: SkipBad = False,
    model: Annotated[str, typer.Option(help="A model's name or folder.")] = "smollm2-135m",
    kinds: Annotated[str, typer.Option(help="What is restored, with commas between.")] = KINDS,
    window: Annotated[int, typer.Option(help="Layers restored together: mlp, attention.")] = 10,
    samples: Annotated[int, typer.Option(help="Draws of the noise.")] = 10,
    noise: Annotated[float, typer.Option(help="Size of the noise in σ of the subjects.")] = 3.0,
    sigma: Sigma = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 1,
    pictures: Annotated[int, typer.Option(min=0, help="Facts that get a heat map.")] = 20,
    out: Annotated[Path, typer.Option(help="The folder for tables and pictures.")] = OUT,
    threads: Threads = None,
    record: Annotated[bool, typer.Option(help="Record the tracing in MLflow.")] = True,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Causal tracing: which hidden states, MLPs and attention carry a fact to its answer.

    Exit codes: 0 traced, 1 failed, 2 wrong use or nothing to trace, 75 interrupted.
    """
    from rich.console import Console

    from editsweep.model.catalogue import resolve
    from editsweep.model.tracing import TraceSettings
    from editsweep.run.progress import shown
    from editsweep.run.trace import TraceJob, TraceOptions, one_prompt, run_trace

    if prompt is None and subject is not None:
        raise ConfigError("--subject belongs to a prompt: write the prompt too")
    chosen: Any = tuple(part.strip() for part in kinds.split(","))  # checked by TraceSettings
    settings = TraceSettings(chosen, window, samples, noise, seed)
    asked = None if prompt is None else one_prompt(prompt, subject)
    job = TraceJob(resolve(model), data, asked, limit, every, skip_bad, sigma, settings)
    options = TraceOptions(out, pictures, threads, record, tracking_uri)
    with shown(Console(stderr=True, highlight=False) if json else console) as progress:
        result = run_trace(job, options, progress)
    if json:
        as_json(_told(result))
    else:
        _print(result)


def _told(result: Any) -> dict[str, Any]:
    return {
        "folder": str(result.folder),
        "sigma": result.sigma,
        **result.summary,
        "found": result.found,
        "left_out": dict(result.left_out),
        "peaks": list(result.peaks),
        "seconds": round(result.seconds, 1),
    }


def _print(result: Any) -> None:
    told, count = result.summary, round(result.summary["facts"])
    as_table(
        ("restored", "highest effect at", "layer", "effect"),
        [
            (row["kind"], row["role"].replace("_", " "), row["layer"], f"{row['effect']:.3f}")
            for row in result.peaks
        ],
        title=f"{count} fact{'' if count == 1 else 's'}: {told['clean']:.3f} clean, "
        f"{told['low']:.3f} corrupted",
    )
    console.print(f"{result.folder / 'trace.html'} ({result.seconds:.0f} s)", markup=False)
