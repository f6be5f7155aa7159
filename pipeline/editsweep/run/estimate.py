"""How long what is left of a plan will take, from rates that were measured. Pure: no clock, no file."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, NamedTuple

from editsweep.run.layout import gpus_of
from editsweep.run.plan import Plan
from editsweep.run.rates import (
    Rate,
    Work,
    asset_work,
    base_work,
    edit_work,
    load_work,
    probes_by_cell,
    probes_of,
)
from editsweep.run.units import Unit

UNKNOWN = "unknown"
_EXACT = tuple(field for field in Work._fields if field != "kind")
# What has to be the same, the nearest first, and what the user is told then.
_EDIT = (
    (_EXACT, "same editor and dataset"),
    (("model", "editor", "settings", "regime"), "same editor"),
    (("model", "editor", "regime"), "same editor, other settings"),
    (("model", "editor"), "same editor, other settings"),
)
_NEAR: Mapping[str, Sequence[tuple[tuple[str, ...], str]]] = {
    "edit": _EDIT,
    "base": ((("model", "asked"), ""), (("model",), "")),
    "asset": ((("model", "settings"), ""), (("model", "editor"), "")),
    "load": ((("model",), ""),),
}


@dataclass(frozen=True)
class Known:
    """The rates to go by: `own` of this sweep, `others` of whatever was run before."""

    own: Sequence[Rate] = ()
    others: Sequence[Rate] = ()


@dataclass(frozen=True)
class Workers:
    """Who will do it: how many, with what part of a GPU if that was said, on which device.

    `device` is as `layout.device_text` writes it; of a GPU any name will do.
    """

    count: int
    gpus: float | None
    device: str


@dataclass(frozen=True)
class Found:
    """Seconds an edit that is made and one that is asked, on `device`; `source` says whence."""

    edit_s: float
    ask_s: float
    device: str
    source: str

    def seconds(self, made: int, asked: int) -> float:
        """For so many edits of one worker."""
        return self.edit_s * made + self.ask_s * asked


@dataclass(frozen=True)
class CellTime:
    """What is left of a cell: `seconds` of one worker. None where nothing like it was measured.

    `edits` are those left, `edit_s` is seconds an edit with its questions, `source` says where that
    comes from and `device` on what it was measured.
    """

    edits: int
    edit_s: float | None
    seconds: float | None
    source: str
    device: str


@dataclass(frozen=True)
class Estimate:
    """What is left of a sweep, by cell and as a whole.

    `wall_s` is the time on `workers` workers, and `gpu_hours` what they keep GPUs busy, None where
    nothing of it is known to run on one; both are of the known part alone. `unknown` names each kind
    of work that no rate is known for.
    """

    cells: Mapping[str, CellTime]
    workers: int
    wall_s: float
    gpu_hours: float | None
    unknown: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As `plan --json` prints it."""
        return {
            "workers": self.workers,
            "seconds": self.wall_s,
            "gpu_hours": self.gpu_hours,
            "complete": not self.unknown,
            "unknown": list(self.unknown),
            "cells": {
                cell_id: {
                    "edits_left": time.edits,
                    "seconds_per_edit": time.edit_s,
                    "seconds": time.seconds,
                    "source": time.source,
                    "device": time.device,
                }
                for cell_id, time in self.cells.items()
            },
        }


class _Job(NamedTuple):
    """What one worker does in one go, and the rate of it; `name` is what a person calls it."""

    name: str
    rate: Found | None
    made: int
    asked: int

    @property
    def seconds(self) -> float:
        return self.rate.seconds(self.made, self.asked) if self.rate else 0.0


def estimate(
    plan: Plan, todo: Sequence[Unit], made: Iterable[str], known: Known, workers: Workers
) -> Estimate:
    """How long the units `todo` take, and first what they need and is not yet `made`.

    Models are loaded, then what is needed is made, then units are done, each of these by all
    workers with the longest first; a sequence is one piece. In truth they overlap, and workers
    wait for each other.

    Args:
        plan: the plan of the sweep.
        todo: its units that are left.
        made: keys of assets and base slices that are there.
        known: the rates.
        workers: who does it.
    """
    probes = probes_by_cell(plan)
    rates = {
        cell_id: nearest(edit_work(plan, cell), known, workers.device, probes[cell_id])
        for cell_id, cell in plan.cells.items()
    }
    units = list(_units(plan, todo, rates))
    first = list(_needed(plan, todo, frozenset(made), known, workers.device))
    loads = list(_loads(plan, todo, known, workers, len(first) + len(units)))
    jobs = [*loads, *first, *units]
    phases = [[job.seconds for job in phase] for phase in (loads, first, units)]
    return Estimate(
        cells=_by_cell(plan, todo, rates),
        workers=workers.count,
        wall_s=sum(makespan(phase, workers.count) for phase in phases),
        gpu_hours=_gpu_hours(jobs, workers.gpus),
        unknown=tuple(
            dict.fromkeys(job.name for job in (*units, *first, *loads) if job.rate is None)
        ),
    )


def nearest(work: Work, known: Known, device: str, probes: float = 0.0) -> Found | None:
    """The rate of `work`, or of the nearest like it, scaled to `probes` questions an edit.

    Of those that are equally near it is one of this sweep, then one on such a device, then the
    latest. None if nothing like it was measured.
    """
    for fields, source in _NEAR[work.kind]:
        for rates in (known.own, known.others):
            fitting = [rate for rate in rates if _same(rate.work, work, fields)]
            if fitting:
                rate = max(fitting, key=lambda rate: _rank(rate, device))
                is_own = rates is known.own and rate.work == work
                scale = probes / rate.probes if rate.probes else 1.0
                said = "this sweep" if is_own else source
                return Found(rate.edit_s, rate.ask_s * scale, rate.device, said)
    return None


def makespan(seconds: Iterable[float], workers: int) -> float:
    """When `workers` are done with jobs of these lengths, each taking the longest that is left."""
    until = [0.0] * workers
    for length in sorted(seconds, reverse=True):
        heapq.heapreplace(until, until[0] + length)
    return max(until)


def _same(one: Work, other: Work, fields: Sequence[str]) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("kind", *fields))


def _rank(rate: Rate, device: str) -> tuple[bool, bool, str]:
    alike = bool(rate.device) and bool(gpus_of(rate.device)) == bool(gpus_of(device))
    return alike, rate.device == device, rate.at


def _units(plan: Plan, todo: Sequence[Unit], rates: Mapping[str, Found | None]) -> Iterator[_Job]:
    """Units, and all that is left of a sequence as one."""
    chains: dict[str, list[Unit]] = {}
    for unit in todo:
        if plan.cells[unit.cell_id].regime.kind == "sequential":
            chains.setdefault(unit.cell_id, []).append(unit)
        else:
            chains[unit.unit_id] = [unit]
    for units in chains.values():
        cell_id = units[0].cell_id
        yield _Job(plan.cells[cell_id].label, rates[cell_id], *_amount(units))


def _amount(units: Sequence[Unit]) -> tuple[int, int]:
    """Edits that are made and edits that are asked."""
    made = sum(unit.stop - unit.start for unit in units)
    return made, made + sum(len(unit.again) for unit in units)


def _needed(
    plan: Plan, todo: Sequence[Unit], made: frozenset[str], known: Known, device: str
) -> Iterator[_Job]:
    needs = dict.fromkeys(need for unit in todo for need in unit.needs)
    for key in needs:
        if key in made:
            continue
        if part := plan.bases.get(key):
            count = len(part.requests)
            rate = nearest(base_work(plan, part), known, device, probes_of(part.requests))
            yield _Job("answers of the unedited model", rate, count, count)
        elif need := plan.assets.get(key):
            work = asset_work(need)
            yield _Job(f"making {work.editor}", nearest(work, known, device), 1, 0)


def _loads(
    plan: Plan, todo: Sequence[Unit], known: Known, workers: Workers, jobs: int
) -> Iterator[_Job]:
    """Every worker with something to do loads a model, and every model is loaded by one."""
    models = list(dict.fromkeys(plan.cells[unit.cell_id].model for unit in todo))
    for model in islice(cycle(models), max(len(models), min(workers.count, jobs))):
        rate = nearest(load_work(model), known, workers.device)
        yield _Job(f"loading {model.entry.name}", rate, 1, 0)


def _by_cell(
    plan: Plan, todo: Sequence[Unit], rates: Mapping[str, Found | None]
) -> dict[str, CellTime]:
    left: dict[str, list[Unit]] = {cell_id: [] for cell_id in plan.cells}
    for unit in todo:
        left[unit.cell_id].append(unit)
    return {cell_id: _cell_time(units, rates[cell_id]) for cell_id, units in left.items()}


def _cell_time(units: Sequence[Unit], rate: Found | None) -> CellTime:
    made, asked = _amount(units)
    if rate is None:
        return CellTime(made, None, None if units else 0.0, UNKNOWN, "")
    seconds = rate.seconds(made, asked)
    each = seconds / made if made else rate.seconds(1, 1)
    return CellTime(made, each, seconds, rate.source, rate.device)


def _gpu_hours(jobs: Iterable[_Job], gpus: float | None) -> float | None:
    """GPUs that are kept busy, by what was said of workers or else by where it was measured."""
    on = [(job.seconds, gpus_of(job.rate.device)) for job in jobs if job.rate]
    busy = [seconds * (gpus or part) for seconds, part in on if part]
    return sum(busy) / 3600 if busy else None
