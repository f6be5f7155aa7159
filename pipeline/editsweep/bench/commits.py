"""What one driver keeps a second: units of 16 real edits of a tiny model, one by one and as they wait.

Also how long it takes to look at all of them again, as a run that goes on does. Prints Markdown.
"""

import argparse
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

from editsweep.core import schema
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.layout import cores
from editsweep.run.sweep import parse_sweep
from editsweep.run.writer import Writer
from editsweep.store.store import Done, SweepStore

SWEEP = """
name: unit
models: [tiny-llama]
editors: [none]
datasets: [{name: world, split: train, limit: 16}]
metrics: {generate: []}
"""


def main() -> None:
    """Run it; `--help` says how much."""
    parser = argparse.ArgumentParser(prog="python -m editsweep.bench.commits", description=__doc__)
    parser.add_argument("--units", type=int, default=500)
    units = parser.parse_args().units
    with tempfile.TemporaryDirectory() as folder:
        parts = real_parts(Path(folder) / "unit")
        size = sum(map(len, parts.values()))
        print(f"{cores()} cores, {platform.machine()}, {units} units of {size / 1000:.0f} kB\n")
        print("| what | units/s | processor ms a unit |\n|---|---|---|")
        store = SweepStore(Path(folder) / "kept")
        with store.locked():
            told("kept one by one", units, lambda: one_by_one(store, parts, units))
            told("kept by the writer", units, lambda: as_they_wait(store, parts, units))
        told("looked at again", 2 * units, store.committed)


def real_parts(folder: Path) -> dict[str, bytes]:
    """The files of one unit of a real sweep."""
    run_sweep(parse_sweep(SWEEP), folder, RunOptions(executor="inline", record=False))
    (unit,) = (folder / "parts").iterdir()
    return {kind: (unit / f"{kind}.arrow").read_bytes() for kind in schema.PARTS}


def one_by_one(store: SweepStore, parts: dict[str, bytes], units: int) -> None:
    """Wait for the disk after each unit."""
    for number in range(units):
        store.commit(f"single{number}", parts, attempt=1, seconds=0.0, host="h")


def as_they_wait(store: SweepStore, parts: dict[str, bytes], units: int) -> None:
    """As a run does whose driver has nothing else to do."""
    with Writer(store) as writer:
        for number in range(units):
            writer.put(Done(f"waiting{number}", parts, 1, 0.0, "h"))
            writer.put({"event": "committed", "unit": number})


def told(what: str, units: int, work: Callable[[], object]) -> None:
    """Print a line about `work` on so many units."""
    wall, own = perf_counter(), process_time()
    work()
    wall, own = perf_counter() - wall, process_time() - own
    print(f"| {what} | {units / wall:.0f} | {1000 * own / units:.2f} |", flush=True)


if __name__ == "__main__":
    main()
