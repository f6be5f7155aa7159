"""A sweep on paper: one driver, many workers, and how much of the workers' time is used.

A discrete-event simulation without Ray or a clock: a worker that is free waits for the driver, which
serves one request after another (it takes a result in and gives the next unit out). Prints Markdown.
"""

import argparse
import heapq
from collections.abc import Sequence
from dataclasses import dataclass

EDITS, WORKERS = 1_000_000, 1_000
UNIT_SIZES = (1, 4, 16, 64)
EDIT_SECONDS = (0.1, 1.0, 10.0)


@dataclass(frozen=True)
class Made:
    """What came of a simulated sweep; seconds from the first request to the last result kept.

    `driver` is the driver's busy time, `ideal` the units' seconds over the workers.
    """

    seconds: float
    driver: float
    ideal: float

    @property
    def efficiency(self) -> float:
        """The share of the workers' time in which they work."""
        return self.ideal / self.seconds if self.seconds else 1.0

    @property
    def driver_load(self) -> float:
        """The share of the time in which the driver is busy."""
        return self.driver / self.seconds if self.seconds else 0.0


def simulated(
    units: Sequence[float],
    workers: int,
    service: float,
    starts: Sequence[float] = (),
    lengths_known: bool = True,
) -> Made:
    """Do `units`, longest first, each of so many seconds.

    Args:
        units: the seconds of each unit on a worker.
        workers: how many there are.
        service: the driver's seconds for one unit, half of it before and half of it after.
        starts: seconds until each worker is ready; all are at once when empty.
        lengths_known: if not, units are done in the order given.

    Raises:
        ValueError: there is no worker, or a time is negative.
    """
    if workers < 1 or min([service, *starts, *units]) < 0:
        raise ValueError(f"{workers} workers, service {service}: none, or a time is below 0")
    left = sorted(units) if lengths_known else list(reversed(units))
    # When a worker asks, and whether it brings a result.
    ready = starts or [0.0] * workers
    asking = [(ready[worker], worker, False) for worker in range(min(workers, len(left)))]
    heapq.heapify(asking)
    free = busy = 0.0
    while asking:
        asked, worker, brings = heapq.heappop(asking)
        cost = service / 2 * (brings + bool(left))
        free = max(free, asked) + cost
        busy += cost
        if left:
            heapq.heappush(asking, (free + left.pop(), worker, True))
    return Made(free, busy, sum(units) / workers)


def main() -> None:
    """Print the tables; `--help` says what can be chosen."""
    parser = argparse.ArgumentParser(prog="python -m editsweep.bench.on_paper", description=__doc__)
    parser.add_argument("--service", type=float, default=0.008, help="driver's seconds a unit")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--edits", type=int, default=EDITS)
    options = parser.parse_args()
    print(
        f"{options.edits:,} edits, {options.workers:,} workers, the driver takes "
        f"{1000 * options.service:g} ms a unit\n"
    )
    print("| edits a unit | seconds an edit | hours | efficiency | driver busy |")
    print("|---|---|---|---|---|")
    for size in UNIT_SIZES:
        for seconds in EDIT_SECONDS:
            units = [size * seconds] * (options.edits // size)
            made = simulated(units, options.workers, options.service)
            print(
                f"| {size} | {seconds:g} | {made.seconds / 3600:.2f} | {made.efficiency:.0%} | "
                f"{made.driver_load:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
