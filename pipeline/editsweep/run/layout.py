"""How many workers with how many threads: never more than the machine has."""

import os
from dataclasses import dataclass

from editsweep.errors import ConfigError


@dataclass(frozen=True)
class Machine:
    """What there is to share out."""

    cores: int
    gpus: int = 0


@dataclass(frozen=True)
class Layout:
    """`workers` processes of `threads` threads and `gpus` GPUs each."""

    workers: int
    threads: int
    gpus: int = 0


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def lay_out(machine: Machine, units: int, workers: int | None, threads: int | None) -> Layout:
    """Share the machine out; what is None is chosen.

    Without a choice there is a worker for each core (each GPU, where there are any), but not more
    than units, and all cores are used.

    Raises:
        ConfigError: more is asked for than there is; the message has the numbers.
    """
    for name, value in (("--workers", workers), ("--threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} {value}: write 1 or more")
    if workers is None:
        places = machine.gpus or max(1, machine.cores // (threads or 1))
        workers = max(1, min(places, units, machine.cores))
    if threads is None:
        threads = max(1, machine.cores // workers)
    if workers * threads > machine.cores:
        raise ConfigError(
            f"{workers} workers of {threads} threads need {workers * threads} cores, there are "
            f"{machine.cores}: choose --workers and --threads whose product is at most that"
        )
    if machine.gpus and workers > machine.gpus:
        raise ConfigError(
            f"{workers} workers need a GPU each, there are {machine.gpus}: choose --workers "
            f"{machine.gpus} or fewer"
        )
    return Layout(workers, threads, 1 if machine.gpus else 0)
