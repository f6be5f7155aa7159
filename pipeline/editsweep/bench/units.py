"""What a driver holds for very many units: memory and seconds of each step until work can begin.

One edit a unit, with one question besides its own; nothing runs. Prints Markdown.
"""

import argparse
import gc
import json
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from editsweep.bench.driver import resident
from editsweep.core import schema
from editsweep.core.ids import content_id
from editsweep.run.dispatch import Dispatch
from editsweep.run.layout import cores
from editsweep.run.plan import make_plan
from editsweep.run.progress import Silent
from editsweep.run.resolve import resolve
from editsweep.run.stop import Stop
from editsweep.run.sweep import parse_sweep
from editsweep.store import manifest
from editsweep.store.store import SweepStore

SWEEP = """
name: units
models: [tiny-llama]
editors: [none]
datasets: ["{path}"]
unit_size: {unit_size}
"""
_Made = TypeVar("_Made")


def main() -> None:
    """Run it; `--help` says how much."""
    parser = argparse.ArgumentParser(prog="python -m editsweep.bench.units", description=__doc__)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--unit-size", type=int, default=1)
    options = parser.parse_args()
    units = options.units
    print(f"{cores()} cores, {platform.machine()}, {units:,} units of {options.unit_size}\n")
    print("| step | seconds | MB it added | bytes a unit |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as draft:
        folder = Path(draft)
        path = folder / "edits.jsonl"
        write_edits(path, units * options.unit_size)
        sweep = parse_sweep(SWEEP.format(path=path, unit_size=options.unit_size))
        resolved = told("edits read", units, lambda: resolve(sweep))
        plan = told("plan made", units, lambda: make_plan(resolved))
        with SweepStore(folder / "sweep").locked() as store:
            told("queue filled", units, lambda: Dispatch(plan, store, Silent(), Stop()))
        path = folder / "manifest.jsonl"
        write_manifest(path, [unit.unit_id for unit in plan.units])
        told("manifest read", units, lambda: manifest.claims(path))
        print(f"\n{resident():,.0f} MB in all")


def told(step: str, units: int, work: Callable[[], _Made]) -> _Made:
    """Print a line about what `work` costs while what it made is kept."""
    gc.collect()
    before, start = resident(), perf_counter()
    made = work()
    seconds = perf_counter() - start
    gc.collect()
    added = resident() - before
    print(f"| {step} | {seconds:.1f} | {added:,.0f} | {added * 2**20 / units:,.0f} |", flush=True)
    return made


def write_edits(path: Path, edits: int) -> None:
    """So many edits of our own format, each with one paraphrase."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(edits):
            edit = {
                "subject": f"Person {i}",
                "prompt": "{} was born in the city of",
                "target_new": "Lyon",
                "target_true": "Porto",
                "probes": [
                    {
                        "axis": "paraphrase",
                        "prompt": f"The birthplace of Person {i} is",
                        "answers": ["Lyon"],
                    }
                ],
            }
            file.write(json.dumps(edit) + "\n")


def write_manifest(path: Path, units: list[str]) -> None:
    """A line for each unit, as a driver writes them."""
    with path.open("w", encoding="utf-8") as file:
        for unit in units:
            entry = manifest.Entry(content_id(unit, 64), 40_000, 1500)
            files = dict.fromkeys(schema.PARTS, entry)
            line = manifest.Line(unit, files, 1, 1.5, "node-1", schema.VERSION, "2026-01-01T00:00")
            file.write(line.text() + "\n")


if __name__ == "__main__":
    main()
