"""What the driver costs: a large sweep of edits that cost next to nothing on a tiny random model.

Between the first and the last unit: the share of the workers' time in which they worked, the
driver's own processor time, and its resident memory at each tenth of the units.
"""

import argparse
import resource
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time

from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.layout import cores
from editsweep.run.progress import Snapshot
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

SWEEP = """
name: driver
models: [tiny-llama]
editors: [{editors}]
datasets: [{{name: world, split: train, limit: {edits}}}]
metrics: {{generate: []}}
unit_size: {unit_size}
"""


@dataclass
class Meter:
    """Looks at the driver whenever it reports progress."""

    started: tuple[float, float] | None = None
    ended: tuple[float, float] = (0.0, 0.0)
    first_done: int = 0
    memory: dict[int, float] = field(default_factory=dict)

    def update(self, now: Snapshot) -> None:
        """Processor and wall time from the first unit on; memory at each tenth."""
        if now.done_now == 0:
            return
        self.ended = (process_time(), perf_counter())
        if self.started is None:
            self.started, self.first_done = self.ended, now.done_now
        self.memory.setdefault(10 * now.done // now.total, resident())

    def say(self, message: str) -> None:
        """Nothing."""


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(prog="python -m editsweep.bench.driver", description=__doc__)
    parser.add_argument("--edits", type=int, default=2000)
    parser.add_argument("--editors", default="none")
    parser.add_argument("--unit-size", type=int, default=16)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    text = SWEEP.format(editors=options.editors, edits=options.edits, unit_size=options.unit_size)
    workers, meter = options.workers or cores(), Meter()
    with tempfile.TemporaryDirectory() as folder:
        chosen = RunOptions(executor="ray", workers=workers, record=False)
        result = run_sweep(parse_sweep(text), Path(folder) / "driver", chosen, meter)
        kept = SweepStore(result.folder).committed().values()
    assert meter.started is not None
    lines = sorted(kept, key=lambda line: line.committed_at)
    busy = sum(line.seconds for line in lines[meter.first_done // options.unit_size :])
    own, wall = (end - start for start, end in zip(meter.started, meter.ended, strict=True))
    print(
        f"{result.edits} edits in {result.units} units, {wall:.1f} s: {workers} workers worked "
        f"{busy / (workers * wall):.1%} of it; the driver used {own:.2f} s of processor time, "
        f"{1000 * own / result.edits:.2f} ms an edit"
    )
    print("driver MB at each tenth:", " ".join(f"{mb:.0f}" for mb in meter.memory.values()))


def resident() -> float:
    """Megabytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
