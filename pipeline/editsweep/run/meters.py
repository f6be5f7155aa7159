"""What a run tells whoever watches it from outside: which meters there are and what they show.

Pure: what leads to Prometheus is a `Sink`. Labels are the sweep's name and the editor's registered
name, nothing that stands in a dataset, a prompt or a path: whoever reaches the port can read them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from time import time
from typing import Protocol


class Kind(Enum):
    """How a meter's values become what it shows."""

    COUNTER = "counter"  # the sum of them
    GAUGE = "gauge"  # the last one
    HISTOGRAM = "histogram"  # how many there are up to each bound


@dataclass(frozen=True)
class Meter:
    """One meter; Prometheus has it as `ray_<name>`."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ("sweep",)
    bounds: tuple[float, ...] = ()


EDITS = Meter("editsweep_edits", Kind.GAUGE, "Edits of the whole sweep")
EDITS_COMMITTED = Meter(
    "editsweep_edits_committed", Kind.GAUGE, "Edits in the folder, those of earlier runs too"
)
EDITS_DONE = Meter("editsweep_edits_done_total", Kind.COUNTER, "Edits committed by this run")
EDITS_FAILED = Meter(
    "editsweep_edits_failed_total", Kind.COUNTER, "Edits committed by this run that failed"
)
UNITS = Meter("editsweep_units", Kind.GAUGE, "Units of the whole sweep")
UNITS_COMMITTED = Meter(
    "editsweep_units_committed", Kind.GAUGE, "Units in the folder, those of earlier runs too"
)
UNITS_DONE = Meter("editsweep_units_done_total", Kind.COUNTER, "Units committed by this run")
UNITS_FAILED = Meter(
    "editsweep_units_failed_total", Kind.COUNTER, "Units committed whose edits failed, all of them"
)
UNITS_RETRIED = Meter(
    "editsweep_units_retried_total", Kind.COUNTER, "Units committed after more than one attempt"
)
UNITS_QUEUED = Meter(
    "editsweep_units_queued", Kind.GAUGE, "Units neither committed nor with a worker"
)
TASKS_IN_FLIGHT = Meter(
    "editsweep_tasks_in_flight", Kind.GAUGE, "Units and preparations that workers are at"
)
WORKER_DEATHS = Meter("editsweep_worker_deaths_total", Kind.COUNTER, "Workers that died")
LAST_COMMIT = Meter(
    "editsweep_last_commit_timestamp_seconds",
    Kind.GAUGE,
    "Unix time of the last commit; of the run's start before the first",
)
EDIT_SECONDS = Meter(
    "editsweep_edit_seconds",
    Kind.HISTOGRAM,
    "Seconds that editing took, an edit, without asking",
    ("sweep", "editor"),
    (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500),
)
GPU_MEMORY = Meter(
    "editsweep_gpu_memory_bytes",
    Kind.GAUGE,
    "GPU memory that a worker's process holds for tensors",
    ("worker", "gpu"),
)
GPU_MEMORY_TOTAL = Meter(
    "editsweep_gpu_memory_total_bytes",
    Kind.GAUGE,
    "All memory of a GPU that a worker uses",
    ("worker", "gpu"),
)
METERS: Mapping[str, Meter] = {
    meter.name: meter
    for meter in (
        *(EDITS, EDITS_COMMITTED, EDITS_DONE, EDITS_FAILED),
        *(UNITS, UNITS_COMMITTED, UNITS_DONE, UNITS_FAILED, UNITS_RETRIED, UNITS_QUEUED),
        *(TASKS_IN_FLIGHT, WORKER_DEATHS, LAST_COMMIT, EDIT_SECONDS),
        *(GPU_MEMORY, GPU_MEMORY_TOTAL),
    )
}


class Sink(Protocol):
    """Where meters are read."""

    def record(self, meter: Meter, value: float, labels: Mapping[str, str]) -> None:
        """Take one value: 0 makes a counter stand there before it has counted anything."""


@dataclass(frozen=True)
class Amount:
    """So many units with so many edits."""

    units: int
    edits: int


class Meters:
    """Turns the events of a run into what its meters show.

    A unit counts as committed once it is given to the writer, which is a moment behind.
    """

    def __init__(self, sink: Sink, sweep: str, whole: Amount, before: Amount) -> None:
        """Of the sweep named `sweep`, which has `whole`, `before` is committed already."""
        self._sink, self._labels = sink, {"sweep": sweep}
        self._whole = whole
        self._units, self._edits = before.units, before.edits
        self._last_commit = time()
        for meter in METERS.values():
            if meter.kind is Kind.COUNTER:
                sink.record(meter, 0, self._labels)

    def event(self, fields: Mapping[str, object]) -> None:
        """One line of the progress log; most kinds show nowhere."""
        if fields["event"] == "committed":
            self._committed(fields)
        elif fields["event"] == "worker_died":
            self._count(WORKER_DEATHS, 1)

    def edited(self, editor: str, seconds: Iterable[float | None]) -> None:
        """What each edit of a unit took with the editor of this registered name, where known."""
        labels = {**self._labels, "editor": editor}
        for value in seconds:
            if value is not None:
                self._sink.record(EDIT_SECONDS, value, labels)

    def show(self, units_in_flight: int, tasks_in_flight: int) -> None:
        """Show how things stand. Call it every second: a gauge that is not told anew goes."""
        whole, units = self._whole, self._units
        readings = {
            EDITS: whole.edits,
            EDITS_COMMITTED: self._edits,
            UNITS: whole.units,
            UNITS_COMMITTED: units,
            UNITS_QUEUED: max(0, whole.units - units - units_in_flight),
            TASKS_IN_FLIGHT: tasks_in_flight,
            LAST_COMMIT: self._last_commit,
        }
        for meter, value in readings.items():
            self._sink.record(meter, value, self._labels)

    def _committed(self, fields: Mapping[str, object]) -> None:
        edits, failed, attempt = (int(str(fields[k])) for k in ("edits", "failed", "attempt"))
        self._units += 1
        self._edits += edits
        self._last_commit = time()
        self._count(UNITS_DONE, 1)
        self._count(EDITS_DONE, edits)
        self._count(EDITS_FAILED, failed)
        self._count(UNITS_FAILED, failed == edits)
        self._count(UNITS_RETRIED, attempt > 1)

    def _count(self, meter: Meter, number: int) -> None:
        if number:
            self._sink.record(meter, number, self._labels)
