"""What of a sweep is there already, and how long the rest will take: read, nothing is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editsweep.errors import ConfigError
from editsweep.model.cache import cache_root
from editsweep.run.assets import asset_folder
from editsweep.run.base_answers import BaseAnswers
from editsweep.run.drive import this_machine
from editsweep.run.estimate import Estimate, Known, Workers, estimate
from editsweep.run.layout import check_gpus, device_text, lay_out
from editsweep.run.plan import Plan
from editsweep.run.rates import known, measured
from editsweep.run.sequences import Sequences
from editsweep.store.store import SweepStore


@dataclass(frozen=True)
class Cached:
    """What need not be done: units that are committed, keys of assets and of base slices.

    `edits` are those of the units, by cell.
    """

    units: frozenset[str]
    edits: Mapping[str, int]
    assets: frozenset[str]
    bases: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """As `plan --json` prints it."""
        return {
            "units": len(self.units),
            "edits": dict(self.edits),
            "assets": sorted(self.assets),
            "bases": sorted(self.bases),
        }


def forecast(
    plan: Plan,
    folder: Path,
    workers: int | None = None,
    gpus: float | None = None,
    cache: Path | None = None,
) -> tuple[Cached, Estimate]:
    """What is there of `plan` in the sweep's `folder` and the cache, and the time for the rest.

    Args:
        plan: the plan of the sweep.
        folder: its folder, which need not be there.
        workers: how many there will be, here or elsewhere; as `run` chooses for this machine if None.
        gpus: the part of a GPU that each will have; what the rates were measured with if None.
        cache: the cache; the user's if None.

    Raises:
        ConfigError: `workers` or `gpus` is no such number, or this machine has no GPU for `gpus`.
    """
    root = cache or cache_root()
    store = SweepStore(folder)
    committed = frozenset(store.committed()) if folder.exists() else frozenset[str]()
    cached = _cached(plan, folder, committed, root)
    sequences = Sequences(plan, folder, committed)
    rates = Known(measured(plan, folder), known(root))
    who = _workers(max(1, sequences.width), workers, gpus)
    return cached, estimate(plan, sequences.todo, cached.assets | cached.bases, rates, who)


def _cached(plan: Plan, folder: Path, committed: frozenset[str], cache: Path) -> Cached:
    bases = BaseAnswers(folder / "base")
    edits = dict.fromkeys(plan.cells, 0)
    done = [unit for unit in plan.units if unit.unit_id in committed]
    for unit in done:
        edits[unit.cell_id] += unit.stop - unit.start
    return Cached(
        units=frozenset(unit.unit_id for unit in done),
        edits=edits,
        assets=frozenset(key for key in plan.assets if asset_folder(cache, key).exists()),
        bases=frozenset(key for key in plan.bases if bases.find(key) is not None),
    )


def _workers(width: int, count: int | None, gpus: float | None) -> Workers:
    """A number that is given may be of other machines; without one it is this machine's."""
    machine = this_machine()
    if count is None:
        layout = lay_out(machine, width, None, None, gpus)
        return Workers(layout.workers, gpus, _like(bool(layout.gpus), layout.threads))
    if count < 1:
        raise ConfigError(f"--workers {count}: write 1 or more")
    if gpus is not None:
        check_gpus(gpus)
    is_gpu = gpus is not None or machine.gpus > 0
    return Workers(count, gpus, _like(is_gpu, max(1, machine.cores // count)))


def _like(is_gpu: bool, threads: int) -> str:
    """A device to prefer rates of; which GPU there will be is not asked, since that costs memory."""
    return device_text("gpu" if is_gpu else "cpu", threads, 1)
