"""The console script: which command there is, and what an error becomes.

Commands import what they need when they run, so that `--help` and `report` start at once.
"""

import sys

import typer

from editsweep import __version__
from editsweep.cli import (
    ability,
    doctor,
    edit,
    export,
    listing,
    rescore,
    results,
    submit,
    sweeps,
    trace,
    train,
)
from editsweep.core.scrub import scrubbed
from editsweep.errors import ConfigError, DataError, EditSweepError

FAILED, USAGE, INTERRUPTED = 1, 2, 75

app = typer.Typer(
    name="editsweep",
    help="Measure model editors at scale.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    sweeps.plan,
    sweeps.run,
    sweeps.retry,
    submit.submit,
    train.train,
    results.status,
    results.report,
    results.compare,
    results.record,
    rescore.rescore,
    edit.edit,
    export.export,
    ability.ability,
    trace.trace,
    listing.editors,
    listing.models,
    doctor.doctor,
    results.ui,
):
    app.command()(command)
app.add_typer(listing.datasets, name="datasets")
app.add_typer(submit.job, name="job")


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and end."),
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; the process ends with the command's exit code."""
    try:
        app()
    except (ConfigError, DataError) as error:
        _end(str(error), USAGE)
    except EditSweepError as error:
        _end(str(error), FAILED)
    except KeyboardInterrupt:
        _end("stopped", INTERRUPTED)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        _end(f"this needs {error.name}: pip install 'editsweep[{extra}]'", USAGE)


_EXTRAS = {
    "torch": "engine",
    "transformers": "engine",
    "safetensors": "engine",
    "huggingface_hub": "engine",
    "ray": "ray",
    "mlflow": "mlflow",
    "pandas": "ray",
    "fsspec": "ray",
    "polars": "report",
    "jinja2": "report",
    "matplotlib": "report",
    "requests": "judge",
    "lm_eval": "ability",
    "scipy": "report",
    "statsmodels": "report",
}


def _end(message: str, code: int) -> None:
    print(f"editsweep: {scrubbed(message)}", file=sys.stderr)
    sys.exit(code)
