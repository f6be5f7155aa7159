"""How many workers with how many threads and GPUs: never more than the machine or the nodes have."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from editsweep.errors import ConfigError


@dataclass(frozen=True)
class Machine:
    """What there is to share out; one node of a cluster, or the only one."""

    cores: int
    gpus: int = 0


@dataclass(frozen=True)
class Layout:
    """`workers` processes of `threads` threads and `gpus` GPUs each; below 1 they share one."""

    workers: int
    threads: int
    gpus: float = 0

    @property
    def whole_gpus(self) -> int:
        """How many GPUs hold the workers; none of those that share one lies on parts of two."""
        if self.gpus > 1:
            return self.workers * int(self.gpus)
        return -(-self.workers // _on_one(self.gpus)) if self.gpus else 0


def device_text(name: str, threads: int, gpus: float) -> str:
    """What a worker computes on: `cpu, 2 threads`, or a GPU by its name, led by how much of it."""
    if name == "cpu":
        return f"cpu, {threads} {'thread' if threads == 1 else 'threads'}"
    return name if gpus == 1 else f"{gpus:g} x {name}"


def gpus_of(device: str) -> float:
    """How many GPUs a worker has on what `device_text` wrote; 0 where there are none."""
    if not device or device.startswith("cpu, "):
        return 0.0
    part, _, name = device.partition(" x ")
    try:
        return float(part) if name else 1.0
    except ValueError:
        return 1.0


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def room(nodes: Sequence[Machine], threads: int, gpus: float) -> int:
    """How many workers of so many threads and GPUs the nodes hold; none lies on two nodes."""
    return sum(_room(node, threads, gpus) for node in nodes)


def lay_out(
    machine: Machine,
    units: int,
    workers: int | None,
    threads: int | None,
    gpus: float | None = None,
) -> Layout:
    """Share the machine out; what is None is chosen.

    Without a choice there is a worker for each core (each GPU, where there are any), but not more
    than units, and all cores are used.

    Raises:
        ConfigError: more is asked for than there is; the message has the numbers.
    """
    chosen = lay_out_nodes((machine,), units, workers, threads, gpus)
    asked = chosen if workers is None else Layout(workers, chosen.threads, chosen.gpus)
    if asked.gpus and asked.workers > (places := _gpu_places(machine, asked.gpus)):
        raise ConfigError(
            f"{asked.workers} workers need {_told(asked.gpus)} each, there are {machine.gpus}: "
            f"choose --workers {places} or fewer"
        )
    if asked.workers * asked.threads > machine.cores:
        raise ConfigError(
            f"{asked.workers} workers of {asked.threads} threads need "
            f"{asked.workers * asked.threads} cores, there are {machine.cores}: choose --workers "
            "and --threads whose product is at most that"
        )
    return asked


def lay_out_nodes(
    nodes: Sequence[Machine],
    units: int,
    workers: int | None,
    threads: int | None,
    gpus: float | None = None,
) -> Layout:
    """The same over the nodes of a cluster, where `workers` is the most that there may be.

    Raises:
        ConfigError: not one node holds a single worker.
    """
    for name, value in (("--workers", workers), ("--threads", threads)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} {value}: write 1 or more")
    share = _share(nodes, gpus)
    most = units if workers is None else min(units, workers)
    if threads is None:
        threads = _threads(nodes, max(1, most), share)
    if not (places := room(nodes, threads, share)) and len(nodes) > 1:
        widest = max(node.cores for node in nodes)
        beside = f" and {_told(share)}" if share else ""
        raise ConfigError(
            f"a worker of {threads} threads{beside} fits on no node, the widest has {widest} cores: "
            "choose fewer --threads"
        )
    return Layout(max(1, most if workers else min(most, places)), threads, share)


def check_gpus(gpus: float) -> None:
    """See whether a worker can have so many GPUs, wherever they are.

    Raises:
        ConfigError: it cannot.
    """
    if not (0 < gpus <= 1 or (gpus > 1 and float(gpus).is_integer())):
        raise ConfigError(
            f"--gpus-per-worker {gpus:g}: write 1, a part of one GPU such as 0.5, or a whole number "
            "of GPUs for a model that does not fit one"
        )


def _share(nodes: Sequence[Machine], gpus: float | None) -> float:
    """GPUs of each worker."""
    most = max((node.gpus for node in nodes), default=0)
    if gpus is None:
        return 1 if most else 0
    check_gpus(gpus)
    if not most:
        raise ConfigError(f"--gpus-per-worker {gpus:g}: there is no GPU")
    if gpus > most:
        there = "there are" if len(nodes) == 1 else "a worker lies on one node, the most there are"
        raise ConfigError(f"--gpus-per-worker {gpus:g}: {there} {most}, choose {most} or fewer")
    return gpus


def _threads(nodes: Sequence[Machine], most: int, gpus: float) -> int:
    """The most threads with which there is still room for `most` workers, or for all that fit."""
    wanted = min(most, room(nodes, 1, gpus))
    widest = max((node.cores for node in nodes), default=1)
    fitting = (n for n in range(widest, 1, -1) if room(nodes, n, gpus) >= wanted)
    return next(fitting, 1)


def _room(node: Machine, threads: int, gpus: float) -> int:
    places = node.cores // threads
    return min(places, _gpu_places(node, gpus)) if gpus else places


def _gpu_places(node: Machine, gpus: float) -> int:
    """How many workers with so many GPUs, or such a part of one, the node's GPUs hold."""
    return node.gpus // int(gpus) if gpus > 1 else node.gpus * _on_one(gpus)


def _told(gpus: float) -> str:
    return "a GPU" if gpus == 1 else f"{gpus:g} GPUs" if gpus > 1 else f"{gpus:g} of a GPU"


def _on_one(part: float) -> int:
    """How many workers with such a part of a GPU share one."""
    return int(1 / part + 1e-9)
