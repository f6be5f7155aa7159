"""From a patch file, or from a cell of a finished sweep, to a folder that other programs load.

A sweep keeps answers and no patches, so an edit of it is made again: editing is deterministic, and
the plan has all that decides it. Of a sequence it keeps the sum of the patches, which is taken.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from editsweep.core.names import unknown
from editsweep.core.types import EditRequest, Regime
from editsweep.data import registry
from editsweep.data.asked import asked_on
from editsweep.errors import ConfigError, EditSweepError, StoreError
from editsweep.model.about import About
from editsweep.model.cache import cache_root, publish
from editsweep.model.catalogue import ModelEntry
from editsweep.model.catalogue import resolve as resolve_model
from editsweep.model.export import write
from editsweep.model.language_model import LanguageModel
from editsweep.model.load import load
from editsweep.model.merge import load_patch, read_about
from editsweep.model.patch import Patch
from editsweep.model.restrain import Restraint
from editsweep.run.assets import built
from editsweep.run.chain import Chain
from editsweep.run.in_turn import in_turn
from editsweep.run.one_edit import check_trained
from editsweep.run.plan import recipes_of
from editsweep.run.resolve import ModelUse, Source, make_spec
from editsweep.run.restrained import restrained
from editsweep.store.chains import ChainFiles


@dataclass(frozen=True)
class Choice:
    """Which patch of a sweep, and what the sweep's folder cannot know.

    Attributes:
        cell: label or id of the cell; may be None where there is only one.
        edit: the first letters of an edit's id.
        group: or the number of the group of edits, from 0.
        model: name or folder of the model, where it is no longer found by the name it had.
        data: the dataset that the sweep edited, as NAME@FILE, where it is a file of the user's.
    """

    cell: str | None = None
    edit: str | None = None
    group: int | None = None
    model: str | None = None
    data: str | None = None


@dataclass(frozen=True)
class _Wanted:
    """One cell of a sweep, and which of its patches; what each way to get a patch works from."""

    folder: Path
    plan: Mapping[str, Any]
    cell: Mapping[str, Any]
    choice: Choice
    cache: Path


class Found(NamedTuple):
    """A patch with the model that it belongs to; `notes` are sentences for the user."""

    model: LanguageModel
    patch: Patch
    about: About
    notes: tuple[str, ...] = ()


def from_file(path: Path, model: str | None = None) -> Found:
    """The patch of a file that `save_patch` wrote.

    Args:
        path: the file.
        model: name or folder of its model, where that is no longer found by the name it had.

    Raises:
        ConfigError: the file does not say whose patch it is, or `model` is another one.
        StoreError: it is not a patch file.
    """
    patch, said = load_patch(path), read_about(path)
    if said:
        about = About.from_json(said)
        entry = _same_model(about.base, about.model.revision, model)
        about = replace(about, model=replace(entry, dtype=about.model.dtype))
    elif model is None:
        raise ConfigError(f"{path} does not say which model it is a patch of: name it with --model")
    else:
        about = About(resolve_model(model), version="")
    return Found(load(about.model), patch, about)


def from_sweep(folder: Path, choice: Choice, cache: Path | None = None) -> Found:
    """The patch of one edit, or of one group of edits, of a sweep.

    Raises:
        ConfigError: there is no such cell, edit or model, or the data are others than in the sweep.
        EditError: the edit fails, as it did in the sweep.
        StoreError: `folder` is not the folder of a sweep.
    """
    plan = read_plan(folder)
    cell = _cell(plan, choice.cell)
    kind = str(cell["regime"]).partition(":")[0]
    if kind not in _PATCH_OF:
        can = " or ".join(f"`{name}`" for name in _PATCH_OF)
        raise ConfigError(
            f"{cell['label']}: a cell of the regime `{kind}` cannot be exported, only {can}"
        )
    return _PATCH_OF[kind](_Wanted(folder, plan, cell, choice, cache or cache_root()))


def export(found: Found, form: str, folder: Path) -> dict[str, int]:
    """Write the patch in a form of `model.export.FORMS`; `folder` appears whole or not at all.

    Returns:
        The bytes of each file, by name.

    Raises:
        ConfigError: the folder is not empty, or the form cannot hold the patch.
    """
    check_empty(folder)
    if folder.is_dir():
        folder.rmdir()
    model, patch, about, _ = found
    publish(lambda draft: write(form, model, patch, draft, about, str(folder)), folder)
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def check_empty(folder: Path) -> None:
    """Nothing is overwritten.

    Raises:
        ConfigError: there is something at `folder`, and it is no empty folder.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already and not empty: choose another --out")


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan of a sweep's folder.

    Raises:
        StoreError: it has none.
    """
    try:
        plan: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{folder} has no plan.json: is it the folder of a sweep?") from None
    return plan


def _edited_again(wanted: _Wanted) -> Found:
    """The edit of one group, made anew as a worker would."""
    plan, cell, choice, cache = wanted.plan, wanted.cell, wanted.choice, wanted.cache
    use = ModelUse(_model_of(cell, choice.model))
    source = _source(cell, choice.data)
    group = _group(cell, _requests(plan, cell, source), choice)
    spec = make_spec(cell["editor"], cell["params"], f"cell {cell['label']!r}")
    check_trained(cell["editor"], spec, use, cache, source)
    model = load(use.entry)
    said = cell.get("restrain")
    restraint = None if said is None else Restraint.parse(said)
    plain = in_turn(built(spec, recipes_of(spec, source, use), model, cache), spec, model)
    editor = restrained(plain, model, restraint)
    (edited,) = editor.edit([group], cell["seed"])
    if edited.error is not None:
        raise edited.error
    about = About(use.entry, cell["editor"], cell["params"], cell["seed"], tuple(group), said)
    return Found(model, edited.patch or Patch(), about, _notes(plan, about))


def _kept_state(wanted: _Wanted) -> Found:
    """The sum of a sequence's patches, as its last checkpoint kept it."""
    plan, cell, choice = wanted.plan, wanted.cell, wanted.choice
    if choice.edit is not None or choice.group is not None:
        raise ConfigError(
            f"{cell['label']!r} is a sequence, all its edits are in one model: leave out --edit and "
            "--group"
        )
    kept, files = cell["cell_id"], ChainFiles(wanted.folder)
    units = [unit["unit_id"] for unit in plan["units"] if unit["cell_id"] == kept]
    data = next((d for unit in reversed(units) if (d := files.find(kept, unit))), None)
    if data is None:
        raise StoreError(f"{wanted.folder} keeps no whole state of {cell['label']!r}: run it again")
    entry = _model_of(cell, choice.model)
    model, chain, said = load(entry), Chain.of(data), cell.get("restrain")
    restraint = None if said is None else Restraint.parse(said)
    patch = chain.patch
    if restraint is not None and not restraint.each_step:
        patch = restraint.apply(model, patch)
    about = About(entry, cell["editor"], cell["params"], cell["seed"], (), said)
    note = f"The model after {chain.done} of {cell['edits']} edits, {len(chain.failed)} failed."
    return Found(model, patch, about, (note, *_notes(plan, about)))


# Where the patch of a cell comes from, by its regime.
_PATCH_OF: Mapping[str, Callable[[_Wanted], Found]] = {
    "single": _edited_again,
    "batch": _edited_again,
    "sequential": _kept_state,
}


def _notes(plan: Mapping[str, Any], about: About) -> tuple[str, ...]:
    if plan["code"] == about.version:
        return ()
    return (
        f"The sweep was run by EditSweep {plan['code']} and the edit made again by {about.version}: "
        "the two may differ.",
    )


def _cell(plan: Mapping[str, Any], wanted: str | None) -> dict[str, Any]:
    cells: list[dict[str, Any]] = plan["cells"]
    if wanted is None and len(cells) == 1:
        return cells[0]
    labels = [cell["label"] for cell in cells]
    if wanted is None:
        raise ConfigError(f"name one cell with --cell: {', '.join(map(repr, labels))}")
    for cell in cells:
        if wanted in (cell["label"], cell["cell_id"]):
            return cell
    raise unknown("cell", wanted, labels)


def _model_of(cell: Mapping[str, Any], given: str | None) -> ModelEntry:
    """The entry of a cell's model, or of `given` in its place, as the cell loaded it."""
    if cell.get("trust_remote_code"):
        raise ConfigError(
            f"{cell['model']} needs Python code that lies beside its weights: only `run` runs such code"
        )
    entry = _same_model(cell["model"], cell["model_revision"], given)
    return replace(entry, dtype=cell.get("model_dtype", entry.dtype))


def _same_model(name: str, revision: str, given: str | None) -> ModelEntry:
    """The entry of the model `name`, or of `given` in its place; it must have the same weights."""
    try:
        entry = resolve_model(given or name)
    except EditSweepError as error:
        if given is not None:
            raise
        raise ConfigError(f"{error}; if it lies elsewhere now, name it with --model") from error
    if entry.revision != revision:
        raise ConfigError(
            f"the patch belongs to {name} of the revision {revision[:16]}, but "
            f"{given or name} is {entry.revision[:16]}: name the same model with --model"
        )
    return entry


def _source(cell: Mapping[str, Any], data: str | None) -> Source:
    """Where the cell's edits are read from."""
    if data is None:
        name: str = cell["dataset"]
        if name not in registry.DATASETS.names() or registry.needs_file(name):
            raise ConfigError(
                f"the edits of {cell['label']!r} were read from a file of yours, as dataset {name!r}: "
                "name it with --data NAME@FILE, or --data FILE.jsonl"
            )
        data = name
    name, path = registry.locate(data)
    skip_bad = bool(cell.get("left_out"))
    return Source(name, cell["split"], None if path is None else str(path), skip_bad)


def _requests(
    plan: Mapping[str, Any], cell: Mapping[str, Any], source: Source
) -> list[EditRequest]:
    """The requests of the cell, the same as when it was run."""
    data = source.load(cell["edits"])
    if data.digest != cell["dataset_digest"]:
        raise ConfigError(
            f"{source.path or source.name}, split {source.split}, holds other edits than the sweep had "
            f"(digest {data.digest}, in the plan {cell['dataset_digest']}): name the file that it was "
            "run on with --data NAME@FILE"
        )
    return [asked_on(request, plan["suite"]["axes"]) for request in data.requests]


def _group(
    cell: Mapping[str, Any], requests: list[EditRequest], choice: Choice
) -> tuple[EditRequest, ...]:
    """The edits that go into the model to export."""
    kind, _, size = cell["regime"].partition(":")
    groups = Regime.parse({kind: int(size)} if size else kind).groups(requests)
    if choice.edit is not None:
        holding = [g for g in groups if any(r.edit_id.startswith(choice.edit) for r in g)]
        if len(holding) != 1:
            raise ConfigError(
                f"--edit {choice.edit}: {len(holding) or 'no'} edits of {cell['label']!r} have an id "
                "that begins so; the ids stand in parts/*/edits.arrow, or choose by place with --group"
            )
        return holding[0]
    if choice.group is None and len(groups) > 1:
        raise ConfigError(
            f"{cell['label']!r} has {len(groups)} models, one for each "
            f"{'case or edit' if kind == 'single' else f'group of {size} edits'}: choose one with --edit ID "
            f"or --group 0 to {len(groups) - 1}"
        )
    number = choice.group or 0
    if not 0 <= number < len(groups):
        raise ConfigError(f"--group {number}: {cell['label']!r} has groups 0 to {len(groups) - 1}")
    return groups[number]
