"""`rescore`: measure an old run anew, from its answers. No torch, no ray."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from editsweep.cli.options import Folder, Json
from editsweep.cli.results import print_board
from editsweep.cli.show import as_json, console
from editsweep.errors import ConfigError

if TYPE_CHECKING:
    from editsweep.run.judge import Judge


def rescore(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(help="The new folder; DIR-rescored if not given.")
    ] = None,
    judge: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Have a model behind this OpenAI-compatible server judge what was said, "
            "e.g. http://localhost:8000/v1; a key is read from EDITSWEEP_JUDGE_KEY.",
        ),
    ] = "",
    judge_model: Annotated[str, typer.Option(help="Its name on that server.")] = "",
    judge_prompt: Annotated[
        Path | None,
        typer.Option(help="A text to ask with, in place of ours; {question} {answers} {said}."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure a run's answers anew, without a model, into a sweep folder of its own."""
    from editsweep.run import publish
    from editsweep.run import rescore as run

    judging = _judge(judge, judge_model, judge_prompt)
    done = run.rescore(folder, out, judging, _say if judging and not json else lambda _: None)
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


def _judge(url: str, model: str, prompt: Path | None) -> Callable[[Path], "Judge"] | None:
    if not url:
        if model or prompt:
            raise ConfigError("--judge-model and --judge-prompt belong to --judge URL")
        return None
    from editsweep.run.judge import PROMPT, JudgeSpec, judge_of

    try:
        text = prompt.read_text(encoding="utf-8") if prompt else PROMPT
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--judge-prompt {prompt} cannot be read: {error}") from None
    return judge_of(JudgeSpec(url, model, text, os.environ.get("EDITSWEEP_JUDGE_KEY", "")))


def _say(text: str) -> None:
    console.print(text, markup=False)


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
