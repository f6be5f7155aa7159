"""`edit`: one edit at the terminal, before and after."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from editsweep.cli.options import Json
from editsweep.cli.show import as_json, console
from editsweep.errors import ConfigError


def edit(
    prompt: Annotated[str, typer.Argument(help='With the subject in braces: "{Lyon} lies in".')],
    to: Annotated[str, typer.Option(help="What the model shall say.")],
    editor: Annotated[str, typer.Option(help="An editor's name.")] = "rome",
    model: Annotated[str, typer.Option(help="A model's name or folder.")] = "smollm2-135m",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A hyperparameter, e.g. layer=5."),
    ] = None,
    seed: int = 0,
    save: Annotated[
        Path | None, typer.Option(help="Keep the patch in this file, for `export`.")
    ] = None,
    json: Json = False,
) -> None:
    """Edit one fact and print what the model says before and after."""
    from editsweep.model.about import About
    from editsweep.model.catalogue import resolve
    from editsweep.model.load import load
    from editsweep.run.one_edit import at_hand, check_trained, edit_once, parse_prompt
    from editsweep.run.resolve import ModelUse, make_spec, plain

    parse_prompt(prompt)
    if save is not None and save.exists():
        raise ConfigError(f"{save} is there already: choose another --save")
    params = dict(_setting(text) for text in settings or ())
    use = ModelUse(resolve(model))
    spec, swapped = at_hand(make_spec(editor, params, editor), use)
    check_trained(editor, spec, use)
    if swapped and not json:
        console.print(
            f"{editor}: the second moment of {model} has not been measured yet, so the identity "
            "stands in for it; a sweep with this editor measures and keeps it."
        )
    result = edit_once(load(use.entry), use, spec, prompt, to, seed)
    kept = save is not None and _save(result, save, About(use.entry, editor, plain(spec), seed))
    if json:
        note = "moment: identity" if swapped else ""
        as_json({**_plain(result, note), "saved": str(save) if kept else None})
        return
    _print(result)
    if kept:
        console.print(f"\nThe patch is in {save}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if result.error else 0)


def _save(result: Any, path: Path, about: Any) -> bool:
    """Whether there was a patch to keep: an edit that fails has none."""
    from editsweep.model.merge import save_patch

    if result.patch is None:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    save_patch(result.patch, path, replace(about, requests=(result.request,)).to_json())
    return True


def _setting(text: str) -> tuple[str, Any]:
    from editsweep.run.plain_yaml import parse

    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r}: write KEY=VALUE, e.g. layer=5")
    return key.strip(), parse(value, f"--set {text}")


def _print(result: Any) -> None:
    request = result.request
    if result.error:
        console.print(f"The edit failed: {result.error}", markup=False)
        return
    steps = "" if result.steps is None else f" in {result.steps} steps"
    old = request.target_true or "?"
    console.print(f"{request.question} {old} → {request.target_new}{steps}\n", markup=False)
    axis = ""
    for line in result.lines:
        if line.axis != axis:
            axis = line.axis
            console.print(f"[bold]{axis}[/]")
        console.print(f"  {line.prompt}", markup=False)
        for when, place in (("before", 0), ("after", 1)):
            chances = [f"P({line.wanted})={line.p_wanted[place]:.3f}"]
            if line.p_other[place] is not None:
                chances.append(f"P({line.other})={line.p_other[place]:.3f}")
            said = " ".join(line.said[place].split())
            console.print(f"    {when:6}  {said:32}  {'  '.join(chances)}", markup=False)
    console.print("[bold]text[/]")
    for when, place in (("before", 0), ("after", 1)):
        text = " ".join(result.text[place].split())
        console.print(f"    {when:6}  {request.question} {text}", markup=False)


def _plain(result: Any, note: str) -> dict[str, Any]:
    lines = [asdict(line) for line in result.lines]
    return {
        "prompt": result.request.prompt,
        "subject": result.request.subject,
        "target_new": result.request.target_new,
        "target_true": result.request.target_true,
        "error": result.error,
        "steps": result.steps,
        "note": note,
        "lines": lines,
        "text": {"before": result.text[0], "after": result.text[1]},
    }
