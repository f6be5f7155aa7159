"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

OUT = Path("runs")


class Executor(StrEnum):
    """Where the work is done."""

    ray = "ray"
    inline = "inline"


class Known(StrEnum):
    """Whether the unedited model knew the old fact."""

    yes = "yes"
    no = "no"


KnownOnly = Annotated[
    Known | None,
    typer.Option(
        "--known",
        help="Only edits whose old fact the unedited model said by itself (yes), or did not (no).",
    ),
]
SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep file (YAML).")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder, e.g. runs/demo.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value, e.g. datasets[0].limit=8."),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Take at most so many records of each dataset.")
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave bad records out, and say how many there are.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Worker processes; chosen if not given. In a running cluster: at most."),
]
Threads = Annotated[int | None, typer.Option(help="Threads of each worker.")]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        metavar="N", help="GPUs of each worker: 1 if not given, a part such as 0.5, or several."
    ),
]
UnitTimeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="End a worker that has a unit for longer than this."),
]
Address = Annotated[
    str | None, typer.Option(help="A running Ray cluster; one of our own if not given.")
]
MaxFailures = Annotated[
    str | None,
    typer.Option(
        metavar="N|N%", help="Give up when more edits than this have failed, e.g. 20 or 5%."
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=1, max=65535, help="Metrics for Prometheus at 127.0.0.1:PORT; off if not given."
    ),
]
Record = Annotated[bool, typer.Option(help="Record the results in MLflow.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="Where MLflow keeps its runs; mlflow.db beside the sweep folders if not given.",
        envvar="MLFLOW_TRACKING_URI",
    ),
]
