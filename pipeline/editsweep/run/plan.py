"""A resolved sweep as cells, units of work and what they need first. Pure: nothing is read or run.

Ids come from content alone, so they do not depend on workers, on the order of units or on the
machine; the same sweep over the same data always gives the same plan.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from editsweep import __version__
from editsweep.core import schema
from editsweep.core.conflicts import superseded
from editsweep.core.ids import content_id
from editsweep.core.types import EditRequest, Regime, by_case
from editsweep.data.dataset import Dataset, Fault
from editsweep.editors import EDITORS
from editsweep.editors.base import EditorSpec
from editsweep.errors import ConfigError
from editsweep.metrics import suite
from editsweep.model.asking import AskSettings
from editsweep.model.asset import Requirement
from editsweep.run.labels import cell_labels
from editsweep.run.resolve import EditorUse, ModelUse, Records, Resolved, Source, plain
from editsweep.run.units import Unit, units_of


@dataclass(frozen=True)
class Recipe:
    """How an asset is made; `key` is the hash of all that decides its content.

    `digest` is that of the source's records; both are None when it reads none.
    """

    key: str
    requirement: Requirement
    source: Source | None
    digest: str | None


@dataclass(frozen=True)
class Cell:
    """One model, editor, dataset, regime and seed: one row of the leaderboard."""

    cell_id: str
    label: str
    model: ModelUse
    editor: EditorUse
    records: Records
    regime: Regime
    seed: int
    recipes: Mapping[str, Recipe]


@dataclass(frozen=True)
class BaseSlice:
    """A slice of a dataset to put to an unedited model."""

    key: str
    model: ModelUse
    requests: tuple[EditRequest, ...] = field(repr=False)


@dataclass(frozen=True)
class AssetNeed:
    """An asset to make with a model."""

    model: ModelUse
    recipe: Recipe


@dataclass(frozen=True)
class Plan:
    """All work of a sweep. `resolved` is what `sweep_id` is the hash of."""

    sweep_id: str
    name: str
    resolved: Mapping[str, Any]
    settings: AskSettings
    cells: Mapping[str, Cell]
    units: tuple[Unit, ...]
    bases: Mapping[str, BaseSlice]
    assets: Mapping[str, AssetNeed]

    def groups(self, unit: Unit) -> list[tuple[EditRequest, ...]]:
        """The edit jobs of a unit."""
        cell = self.cells[unit.cell_id]
        return cell.regime.groups(cell.records.data.requests[unit.start : unit.stop])

    def again(self, unit: Unit) -> tuple[EditRequest, ...]:
        """The earlier edits that a unit of a sequence asks again."""
        requests = self.cells[unit.cell_id].records.data.requests
        return tuple(requests[place] for place in unit.again)

    @property
    def left_out(self) -> list[str]:
        """A line for each dataset with bad records, which `skip_bad` leaves out: how many of what."""
        return [
            f"{data.name}: {_counted(data.left_out, 'bad records are left out')}"
            for data in self._data()
            if data.left_out
        ]

    @property
    def noted(self) -> list[str]:
        """A line for each dataset with faults in records that are edited nevertheless."""
        return [
            f"{data.name}: {_counted(data.notes, 'faults in records that are kept')}"
            for data in self._data()
            if data.notes
        ]

    @property
    def trusted(self) -> list[str]:
        """A line for each model whose own code is run."""
        models = dict.fromkeys(cell.model for cell in self.cells.values())
        return [
            f"WARNING: trust_remote_code runs the Python code that lies in {use.entry.location} as "
            f"you, on every worker: read it first (model {use.entry.name})"
            for use in models
            if use.trust_remote_code
        ]

    @property
    def conflicts(self) -> list[str]:
        """A line for each dataset and regime in which edits of one model contradict each other."""
        pairs = {(cell.records.where, cell.regime): cell for cell in self.cells.values()}
        return [line for cell in pairs.values() for line in _conflicts(cell)]

    def _data(self) -> Iterator[Dataset]:
        """Every dataset once."""
        data = {id(cell.records.data): cell.records.data for cell in self.cells.values()}
        yield from data.values()

    def to_json(self) -> dict[str, Any]:
        """The plan as `plan.json` keeps it."""
        return {
            "sweep_id": self.sweep_id,
            "name": self.name,
            "cells": [_cell_json(cell) for cell in self.cells.values()],
            "units": [
                {"unit_id": u.unit_id, "cell_id": u.cell_id, "start": u.start, "stop": u.stop}
                for u in self.units
            ],
            "suite": {"version": suite.VERSION, **self.resolved["metrics"]},
            "code": __version__,
        }


def make_plan(resolved: Resolved) -> Plan:
    """The plan of a sweep.

    Raises:
        ConfigError: an editor cannot do a regime, or the same thing would be done twice.
    """
    sweep = resolved.sweep
    asked = sweep.metrics
    settings = AskSettings(tuple(asked.generate), asked.max_new_tokens, asked.kl)
    for records in resolved.datasets:
        _no_edit_twice(records)
        _no_case_apart(records)
    cells = _cells(resolved)
    bases: dict[str, BaseSlice] = {}
    assets: dict[str, AssetNeed] = {}
    units: list[Unit] = []
    by_edit: dict[tuple[ModelUse, str], list[str]] = {}
    for model, records in itertools.product(resolved.models, resolved.datasets):
        chunks = list(_base_slices(model, records, settings, sweep.unit_size))
        bases |= {chunk.key: chunk for chunk in chunks}
        by_edit[model, records.where] = [c.key for c in chunks for _ in c.requests]
    for cell in cells:
        for recipe in cell.recipes.values():
            assets.setdefault(recipe.key, AssetNeed(cell.model, recipe))
        units += units_of(
            cell.cell_id,
            cell.regime,
            cell.records.data.requests,
            sweep.unit_size,
            [recipe.key for recipe in cell.recipes.values()],
            by_edit[cell.model, cell.records.where],
        )
    described = _described(resolved)
    return Plan(
        sweep_id=content_id(described),
        name=sweep.name,
        resolved=described,
        settings=settings,
        cells={cell.cell_id: cell for cell in cells},
        units=tuple(units),
        bases=bases,
        assets=assets,
    )


def _cells(resolved: Resolved) -> list[Cell]:
    sweep = resolved.sweep
    points = list(
        itertools.product(
            resolved.models, resolved.datasets, sweep.regimes, sweep.seeds, resolved.editors
        )
    )
    for _, records, regime, _, editor in points:
        _no_case_for(editor, records, regime)
        if regime.kind not in editor.spec.regimes:
            can = ", ".join(sorted(editor.spec.regimes))
            others = [name for name in EDITORS.names() if regime.kind in EDITORS.load(name).regimes]
            raise ConfigError(
                f"{editor.where}: {editor.name} cannot edit in the regime `{regime}`; it can: "
                f"{can}. `{regime.kind}` can be done by {', '.join(others)}"
            )
    labels = cell_labels([(m.entry.name, r.data.name, str(g), s, e) for m, r, g, s, e in points])
    cells = [
        Cell(
            _cell_id(resolved, model, editor, records, regime, seed),
            label,
            model,
            editor,
            records,
            regime,
            seed,
            recipes_of(editor.spec, records.source, model, resolved.digests),
        )
        for (model, records, regime, seed, editor), label in zip(points, labels, strict=True)
    ]
    _no_cell_twice(cells)
    return cells


def _cell_id(
    resolved: Resolved,
    model: ModelUse,
    editor: EditorUse,
    records: Records,
    regime: Regime,
    seed: int,
) -> str:
    return content_id(
        {
            "model": model.described,
            "editor": editor.described,
            "dataset": [records.data.name, records.data.split, records.data.digest],
            "regime": str(regime),
            "seed": seed,
            "ask": resolved.sweep.metrics.model_dump(),
            "suite": suite.VERSION,
            "schema": schema.VERSION,
        }
    )


def recipes_of(
    spec: EditorSpec, home: Source, model: ModelUse, digests: Mapping[Source, str] | None = None
) -> dict[str, Recipe]:
    """What `spec` requires, by name, for edits of the dataset `home`.

    Sources that are not in `digests` are read here.

    Raises:
        ConfigError: `home` has no train split, and the editor wants to learn from it.
    """
    recipes = {}
    for name, need in sorted(spec.requirements().items()):
        source = None if need.source is None else Source.of(need.source, home)
        digest = None
        if source is not None:
            digest = (digests or {}).get(source) or source.corpus()[1]
        kind = f"{type(need).__module__}:{type(need).__qualname__}"
        weights = model.described
        # Where the data lie does not matter: what is in them does.
        own = {name: value for name, value in plain(need).items() if name != "source"}
        key = content_id([kind, own, digest, weights, __version__])
        recipes[name] = Recipe(key, need, source, digest)
    return recipes


def _base_slices(
    model: ModelUse, records: Records, settings: AskSettings, size: int
) -> Iterator[BaseSlice]:
    """The dataset in slices of `size`, whatever the regimes, so that all cells share them."""
    requests = records.data.requests
    for start in range(0, len(requests), size):
        chunk = requests[start : start + size]
        asked = [[r.edit_id, [p.probe_id for p in r.all_probes]] for r in chunk]
        weights = model.described
        yield BaseSlice(content_id([weights, asked, plain(settings), __version__]), model, chunk)


def _conflicts(cell: Cell) -> Iterator[str]:
    """What of a cell's edits does not come to be, or does not last, because later ones contradict."""
    requests, regime = cell.records.data.requests, cell.regime
    told = [
        (group[early], group[late])
        for group in regime.groups(requests)
        for early, late in superseded(group).items()
    ]
    where = f"{cell.records.data.name} in {regime}"
    if told:
        yield (
            f"{where}: {len(told)} edits fail as `superseded`, since a later one that is made at "
            f"the same time says otherwise; {_first(*told[0])}"
        )
    if regime.kind == "sequential":
        failed = {early.edit_id for early, _ in told}
        pairs = [(requests[i], requests[j]) for i, j in superseded(requests).items()]
        over = [(early, late) for early, late in pairs if early.edit_id not in failed]
        if over:
            yield (
                f"{where}: {len(over)} edits are overwritten by a later one, and not asked again "
                f"from then on; {_first(*over[0])}"
            )


def _first(early: EditRequest, late: EditRequest) -> str:
    return (
        f"the first: {early.question!r} to {early.target_new!r}, later {late.question!r} to "
        f"{late.target_new!r}"
    )


def _no_edit_twice(records: Records) -> None:
    counts = Counter(request.edit_id for request in records.data.requests)
    twice = [edit_id for edit_id, count in counts.items() if count > 1]
    if twice:
        edit = next(r for r in records.data.requests if r.edit_id == twice[0])
        raise ConfigError(
            f"{records.where}: {len(twice)} edits stand in {records.data.name!r} more than once, "
            f"the first is {edit.question!r} to {edit.target_new!r}; keep one of each"
        )


def _no_case_apart(records: Records) -> None:
    counts = Counter(group[0].case for group in by_case(records.data.requests) if group[0].case)
    apart = [case for case, count in counts.items() if count > 1]
    if apart:
        raise ConfigError(
            f"{records.where}: the edits of case {apart[0]!r} of {records.data.name!r} do not follow "
            "each other; put the edits of a case on consecutive lines"
        )


# An editor that does one of them can make several edits in one model.
_SEVERAL = frozenset({"batch", "sequential"})


def _no_case_for(editor: EditorUse, records: Records, regime: Regime) -> None:
    """Refuse cases of several edits where the editor has no way to make more than one."""
    if regime.kind != "single" or _SEVERAL & editor.spec.regimes:
        return
    case = next((g for g in by_case(records.data.requests) if len(g) > 1), None)
    if case is not None:
        others = [name for name in EDITORS.names() if _SEVERAL & EDITORS.load(name).regimes]
        raise ConfigError(
            f"{editor.where}: {editor.name} makes one edit in a model, and case {case[0].case!r} of "
            f"{records.data.name!r} has {len(case)} that belong together; they can be made by "
            f"{', '.join(others)}"
        )


def _no_cell_twice(cells: Sequence[Cell]) -> None:
    seen: dict[str, Cell] = {}
    for cell in cells:
        if other := seen.get(cell.cell_id):
            places = (
                f"{other.editor.where} and {cell.editor.where}, "
                f"{other.records.where} and {cell.records.where}"
            )
            raise ConfigError(
                f"{cell.label!r} would be done twice with the same settings (see {places}, "
                "`models`, `regimes` and `seeds`); keep one"
            )
        seen[cell.cell_id] = cell
    twice = [label for label, count in Counter(c.label for c in cells).items() if count > 1]
    if twice:
        raise ConfigError(
            f"two cells have the label {twice[0]!r}: give each editor its own `label`"
        )


def _described(resolved: Resolved) -> dict[str, Any]:
    """All that decides the results, as plain JSON; how much memory is used does not."""
    sweep = resolved.sweep
    return {
        "name": sweep.name,
        "models": [
            {
                "name": m.entry.name,
                "revision": m.entry.revision,
                "dtype": m.entry.dtype,
                **m.trust,
            }
            for m in resolved.models
        ],
        "editors": [
            {
                "name": e.name,
                **({"label": e.label} if e.label else {}),
                **_restrained(e),
                "params": dict(e.params),
            }
            for e in resolved.editors
        ],
        "datasets": [
            {
                "name": r.data.name,
                "split": r.data.split,
                "edits": len(r.data.requests),
                "digest": r.data.digest,
            }
            for r in resolved.datasets
        ],
        "regimes": [str(regime) for regime in sweep.regimes],
        "seeds": list(sweep.seeds),
        "metrics": sweep.metrics.model_dump(),
        "unit_size": sweep.unit_size,
        "suite": suite.VERSION,
        "code": __version__,
    }


def _restrained(editor: EditorUse) -> dict[str, Any]:
    return {} if editor.restrain is None else {"restrain": editor.restrain.plain}


def _cell_json(cell: Cell) -> dict[str, Any]:
    data = cell.records.data
    return {
        "cell_id": cell.cell_id,
        "label": cell.label,
        "model": cell.model.entry.name,
        "model_revision": cell.model.entry.revision,
        "model_dtype": cell.model.entry.dtype,
        **cell.model.trust,
        "editor": cell.editor.name,
        "params": dict(cell.editor.params),
        **_restrained(cell.editor),
        "dataset": data.name,
        "split": data.split,
        "dataset_digest": data.digest,
        "regime": str(cell.regime),
        "seed": cell.seed,
        "edits": len(data.requests),
        "left_out": len(data.left_out),
        "noted": dict(sorted(Counter(fault.kind for fault in data.notes).items())),
    }


def _counted(faults: Sequence[Fault], what: str) -> str:
    kinds = sorted(Counter(fault.kind for fault in faults).items())
    return f"{len(faults)} {what} ({', '.join(f'{count} {kind}' for kind, count in kinds)})"
