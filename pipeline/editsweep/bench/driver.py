"""What the driver costs: a large sweep of edits that cost next to nothing on a tiny random model.

The share of time is the driver's own processor time over the wall time of the run, workers being
busy all the while; memory is the driver's resident set at each tenth of the units.
"""

import argparse
import resource
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time

from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.progress import Snapshot
from editsweep.run.sweep import parse_sweep

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
    memory: dict[int, float] = field(default_factory=dict)

    def update(self, now: Snapshot) -> None:
        """Processor and wall time from the first unit on; memory at each tenth."""
        if now.done_now == 0:
            return
        self.ended = (process_time(), perf_counter())
        self.started = self.started or self.ended
        self.memory.setdefault(10 * now.done // now.total, _resident())

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
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        chosen = RunOptions(executor="ray", workers=options.workers, record=False)
        result = run_sweep(parse_sweep(text), Path(folder) / "driver", chosen, meter)
    assert meter.started is not None
    own, wall = (end - start for start, end in zip(meter.started, meter.ended, strict=True))
    print(
        f"{result.edits} edits in {result.units} units, {wall:.1f} s: the driver worked "
        f"{own:.2f} s, {own / wall:.2%}"
    )
    print("driver MB at each tenth:", " ".join(f"{mb:.0f}" for mb in meter.memory.values()))


def _resident() -> float:
    """Megabytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
