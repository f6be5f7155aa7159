"""`export`: a patch as files that other programs load."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from editsweep.cli.options import Json
from editsweep.cli.show import as_json, as_table, console
from editsweep.errors import ConfigError


class Form(StrEnum):
    """What a patch can be written as; the names of `model.export.FORMS`, known without torch."""

    lora = "lora"
    checkpoint = "checkpoint"
    patch = "patch"


def export(
    source: Annotated[
        Path, typer.Argument(help="A patch file (of `edit --save`), or a sweep's folder.")
    ],
    form: Annotated[
        Form,
        typer.Option(
            "--as", help="A PEFT adapter, a merged checkpoint, or a patch file of our own."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    cell: Annotated[str | None, typer.Option(help="A sweep's cell, by label or id.")] = None,
    edit: Annotated[
        str | None, typer.Option(help="Its edit, by the first letters of the id.")
    ] = None,
    group: Annotated[int | None, typer.Option(help="Or its group of edits, from 0.")] = None,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Cut each change to this rank, and say the error.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The patch's model, if it lies elsewhere now.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The sweep's dataset, if it was a file: NAME@FILE.")
    ] = None,
    json: Json = False,
) -> None:
    """Write an edit as a LoRA adapter, a merged checkpoint or a patch file, into a new folder."""
    from editsweep.model.export import FORMS, truncated
    from editsweep.run.export import Choice, check_empty, from_file, from_sweep
    from editsweep.run.export import export as write

    choice = Choice(cell, edit, group, model, data)
    _check(source, choice)
    check_empty(out)
    found = from_sweep(source, choice) if source.is_dir() else from_file(source, model)
    error = None
    if rank is not None:
        cut, error = truncated(found.patch, rank)
        found = found._replace(patch=cut)
    told = {
        "form": form.value,
        "folder": str(out),
        "files": write(found, form.value, out),
        "relative_error": error,
        "notes": list(found.notes),
        "load": list(FORMS[form.value].code(found.about, str(out))),
    }
    if json:
        as_json(told)
    else:
        _print(told)


def _check(source: Path, choice: Any) -> None:
    if not source.exists():
        raise ConfigError(f"{source} is not there: name a patch file or a sweep's folder")
    of_sweep = {n: getattr(choice, n) for n in ("cell", "edit", "group", "data")}
    given = [f"--{name}" for name, value in of_sweep.items() if value is not None]
    if given and not source.is_dir():
        raise ConfigError(f"{given[0]} belongs to a sweep's folder, and {source} is a file")
    if choice.edit is not None and choice.group is not None:
        raise ConfigError("--edit and --group both choose an edit: keep one")


def _print(told: dict[str, Any]) -> None:
    files = told["files"]
    as_table(("file", "bytes"), files.items(), title=told["folder"])
    console.print(f"{sum(files.values()) / 2**20:,.2f} MiB", markup=False)
    if told["relative_error"] is not None:
        console.print(
            f"what was cut off is {told['relative_error']:.3g} of the change (Frobenius norm)"
        )
    for note in told["notes"]:
        console.print(note, markup=False)
    console.print("\nTo load it:")
    for line in told["load"]:
        console.print(f"    {line}", markup=False, soft_wrap=True)
