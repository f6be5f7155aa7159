"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        help="Where MLflow keeps its runs; mlflow.db beside the sweep folders if not given.",
        envvar="MLFLOW_TRACKING_URI",
    ),
]
