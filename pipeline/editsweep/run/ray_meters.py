"""Meters on the metrics port of each Ray node, where Prometheus reads them."""

import math
import os
import platform
from collections.abc import Mapping
from threading import Thread
from time import sleep
from typing import Any

from editsweep.run.cluster import ray_metrics
from editsweep.run.meters import GPU_MEMORY, GPU_MEMORY_TOTAL, METERS, Kind, Meter

GPU_EVERY_S = 2.0
# Ray refuses to count 0; this stands for it, and is gone in the sum when the first 1 comes.
NOTHING = math.ulp(0.0)


class RaySink:
    """Values for Ray, which sends them to the node's agent every few seconds."""

    def __init__(self) -> None:
        """Within a cluster only: values recorded outside of one are lost.

        Raises:
            ConfigError: ray is not installed.
        """
        library = ray_metrics()
        self._meters = {name: _made(library, meter) for name, meter in METERS.items()}

    def record(self, meter: Meter, value: float, labels: Mapping[str, str]) -> None:
        """Take one value."""
        made, tags = self._meters[meter.name], dict(labels)
        if meter.kind is Kind.COUNTER:
            made.inc(value or NOTHING, tags)
        elif meter.kind is Kind.GAUGE:
            made.set(value, tags)
        else:
            made.observe(value, tags)


def watch_gpus(_worker: object) -> None:
    """Have the GPU memory of this process told from now on; to be called in an actor."""
    import torch

    if torch.cuda.is_available():
        Thread(target=_tell_gpus, args=(torch.cuda,), daemon=True).start()


def gpu_readings(cuda: Any) -> list[tuple[str, int, int]]:
    """Of each GPU that this process sees: its UUID, the bytes held for tensors, all its bytes.

    Nothing before the first use of a GPU, which this must not be.
    """
    if not cuda.is_initialized():
        return []
    known = [(place, cuda.get_device_properties(place)) for place in range(cuda.device_count())]
    return [(str(of.uuid), cuda.memory_reserved(place), of.total_memory) for place, of in known]


def _tell_gpus(cuda: Any) -> None:
    sink, worker = RaySink(), f"{platform.node()}:{os.getpid()}"
    while True:
        for gpu, held, total in gpu_readings(cuda):
            labels = {"worker": worker, "gpu": gpu}
            sink.record(GPU_MEMORY, held, labels)
            sink.record(GPU_MEMORY_TOTAL, total, labels)
        sleep(GPU_EVERY_S)


def _made(library: Any, meter: Meter) -> Any:
    if meter.kind is Kind.COUNTER:
        return library.Counter(meter.name, meter.text, meter.labels)
    if meter.kind is Kind.GAUGE:
        return library.Gauge(meter.name, meter.text, meter.labels)
    return library.Histogram(meter.name, meter.text, list(meter.bounds), meter.labels)
