"""`rescore`: measure an old run anew, from its answers. No torch, no ray."""

from pathlib import Path
from typing import Annotated

import typer

from editsweep.cli.options import Folder, Json
from editsweep.cli.results import print_board
from editsweep.cli.show import as_json, console


def rescore(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(help="The new folder; DIR-rescored if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a run's answers anew, without a model, into a sweep folder of its own."""
    from editsweep.run import publish
    from editsweep.run import rescore as run

    done = run.rescore(folder, out)
    publish.report(done.folder)
    if json:
        found = {name: getattr(done, name) for name in done.__dataclass_fields__}
        as_json(found | {"folder": str(done.folder), "warnings": list(done.warnings)})
        return
    print_board(done.folder)
    for line in (*done.warnings, *_told(done.units_missing, done.units_now)):
        console.print(line, markup=False)
    console.print(
        f"{done.units_now} units: {done.made} rows measured anew, {done.carried} carried over, "
        f"since the answers do not give them: {done.folder}",
        markup=False,
    )


def _told(missing: int, now: int) -> list[str]:
    told = []
    if missing:
        told.append(
            f"{missing} units of the run are not recorded yet: they are missing here too. When the "
            "run has gone on, give the same command again"
        )
    if not now:
        told.append("Nothing to do: what the run has was rescored before")
    return told
