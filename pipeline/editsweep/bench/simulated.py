"""A sweep whose edits only sleep, for known seconds: how much of the workers' time the rest takes.

Real Ray, dispatch and commits; the cores are logical, since who sleeps needs none. What is measured is
compared with the simulation of `on_paper`. Counted from when every worker has its model and what the
unedited model says is there. Prints Markdown.
"""

import argparse
import json
import platform
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from editsweep.bench.driver import Meter
from editsweep.bench.on_paper import simulated
from editsweep.run import drive
from editsweep.run.layout import Machine, cores
from editsweep.run.plan import make_plan
from editsweep.run.resolve import resolve
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore
from editsweep.testing import installed

SWEEP = """
name: simulated
models: [tiny-llama]
editors: [{{name: sleep, seconds: {seconds}}}]
datasets: [{{name: world, split: train, limit: {edits}}}]
metrics: {{generate: []}}
unit_size: {unit_size}
"""
# An edit sleeps between half and one and a half of `seconds`, as its subject's hash says.
EDITOR = """
from dataclasses import dataclass
from time import sleep
from typing import ClassVar

from editsweep.core.ids import content_id
from editsweep.editors.base import Edited


def lasts(request, seconds):
    return seconds * (0.5 + int(content_id(request.edit_id)[:8], 16) / 2**32)


@dataclass(frozen=True)
class SleepSpec:
    name: ClassVar[str] = "sleep"
    regimes: ClassVar[frozenset[str]] = frozenset({"single"})
    seconds: float = 1.0

    def requirements(self):
        return {}

    def build(self, model, assets):
        return Sleep(self.seconds)


@dataclass(frozen=True)
class Sleep:
    seconds: float

    def edit(self, groups, seed):
        sleep(sum(lasts(request, self.seconds) for group in groups for request in group))
        return [Edited() for _ in groups]
"""


class Ran(NamedTuple):
    """A unit: when it began and ended, in seconds, and how long its edits slept in between."""

    began: float
    ended: float
    slept: float


def main() -> None:
    """Run it; `--help` says how much."""
    parser = argparse.ArgumentParser(
        prog="python -m editsweep.bench.simulated", description=__doc__
    )
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--edits", type=int, default=1200)
    parser.add_argument("--unit-size", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="an edit, on average")
    options = parser.parse_args()
    text = SWEEP.format(**vars(options))
    with (
        tempfile.TemporaryDirectory() as draft,
        installed(Path(draft, "plugin"), EDITOR, {"sleep": "editsweep_sleep:SleepSpec"}),
    ):
        machine = Machine(options.workers)
        chosen = drive.RunOptions(executor="ray", workers=options.workers, threads=1, record=False)
        folder, meter = Path(draft) / "sweep", Meter()
        with mock.patch.object(drive, "this_machine", return_value=machine):
            drive.run_sweep(parse_sweep(text), folder, chosen, meter)
        units, ready = ran(folder, text, options.seconds), all_ready(folder, options.workers)
    assert meter.started is not None
    since_first = options.edits - meter.first_done
    own = (meter.ended[0] - meter.started[0]) * options.unit_size / since_first
    print(
        f"{cores()} cores, {platform.machine()}: {len(units)} units of {options.unit_size} edits of "
        f"{options.seconds:g} s on {options.workers} workers\n"
    )
    told(units, ready, options.workers, own)


def told(units: Sequence[Ran], ready: float, workers: int, own: float) -> None:
    """Print the efficiency from `ready` on, and what it is on paper with the driver's `own` seconds."""
    end = max(unit.ended for unit in units)
    span, slept = end - ready, sum(within(unit, ready, end) for unit in units)
    fresh = sorted(unit for unit in units if unit.began >= ready)
    busy = [unit.ended - ready for unit in units if unit.began < ready < unit.ended]
    lasting = [unit.ended - unit.began for unit in fresh]
    starts = [*busy, *[0.0] * (workers - len(busy))]
    # The driver knows how many edits a unit has, and not that some sleep longer.
    paper = simulated(lasting, workers, own, starts, lengths_known=False)
    asking = sum(unit.ended - unit.began - unit.slept for unit in fresh) / len(fresh)
    print("| | measured | on paper |\n|---|---|---|")
    print(f"| seconds | {span:.1f} | {paper.seconds:.1f} |")
    print(f"| efficiency | {slept / workers / span:.1%} | |")
    print(f"\nA unit took {1000 * asking:.0f} ms beyond its sleep, the driver {1000 * own:.1f} ms.")


def within(unit: Ran, start: float, end: float) -> float:
    """The seconds that a unit slept between two times, its sleep being spread over it evenly."""
    overlap = max(0.0, min(unit.ended, end) - max(unit.began, start))
    return overlap * unit.slept / (unit.ended - unit.began)


def ran(folder: Path, text: str, seconds: float) -> list[Ran]:
    """The units of a run as its manifest has them."""
    from editsweep_sleep import lasts  # type: ignore[import-not-found]

    plan = make_plan(resolve(parse_sweep(text)))
    kept = SweepStore(folder).committed()
    made = []
    for unit in plan.units:
        line = kept[unit.unit_id]
        ended = datetime.fromisoformat(line.committed_at).timestamp()
        asked = [request for group in plan.groups(unit) for request in group]
        slept = sum(lasts(request, seconds) for request in asked)
        made.append(Ran(ended - line.seconds, ended, slept))
    return made


def all_ready(folder: Path, workers: int) -> float:
    """When so many workers had loaded their models and the unedited one's answers were there.

    Raises:
        SystemExit: fewer than that ever did.
    """
    lines = (folder / "progress.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    loaded = [event for event in events if event["event"] == "loaded"]
    if len(loaded) < workers:
        raise SystemExit(
            f"only {len(loaded)} of {workers} workers had something to do: take more --edits"
        )
    first = [*loaded, *(event for event in events if event["event"] == "prepared")]
    return max(datetime.fromisoformat(event["time"]).timestamp() for event in first)


if __name__ == "__main__":
    main()
