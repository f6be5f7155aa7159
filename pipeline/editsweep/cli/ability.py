"""`ability`: what an edit does to everything else that a model can."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from editsweep.cli.options import Json
from editsweep.cli.show import as_json, as_table
from editsweep.errors import ConfigError


def ability(
    patch: Annotated[
        str,
        typer.Argument(
            metavar="PATCH|none",
            help="A patch file (of `edit --save` or `export --as patch`), or none: only the model.",
        ),
    ],
    tasks: Annotated[
        str, typer.Option(help="Tasks of lm-evaluation-harness, with commas between.")
    ],
    model: Annotated[
        str | None, typer.Option(help="The model; a patch's own if not given.")
    ] = None,
    include_path: Annotated[
        Path | None, typer.Option(help="A folder with task files of your own.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take only so many samples of each task.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a pass.")] = 8,
    json: Json = False,
) -> None:
    """Run tasks of lm-evaluation-harness on a model, and on the model with a patch."""
    from editsweep.model.load import load
    from editsweep.run.ability import TaskChoice
    from editsweep.run.ability import ability as measure
    from editsweep.run.export import from_file

    names = tuple(name.strip() for name in tasks.split(",") if name.strip())
    if not names:
        raise ConfigError("--tasks names no task")
    if patch == "none":
        if model is None:
            raise ConfigError("name the model with --model")
        base, change = load(model), None
    else:
        found = from_file(Path(patch), model)
        base, change = found.model, found.patch
    rows = measure(base, change, TaskChoice(names, include_path, limit, batch_size))
    if json:
        as_json([asdict(row) | {"difference": row.difference} for row in rows])
        return
    as_table(
        ("task", "metric", "filter", "samples", "unedited", "edited", "difference"),
        [
            (
                row.task,
                row.metric,
                row.filter,
                row.samples,
                _with_error(row.unedited, row.unedited_stderr),
                _with_error(row.edited, row.edited_stderr),
                "–" if row.difference is None else f"{row.difference:+.4f}",
            )
            for row in rows
        ],
        title=f"{base.name}, unedited" + ("" if change is None else f" and with {patch}"),
    )


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if error is None else f"{value:.4f} ± {error:.4f}"
