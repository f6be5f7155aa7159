"""The executor over Ray: plain supervised actors, one task in flight each.

Actors are not restarted by Ray (`max_restarts=0`): the driver sees every death, replaces the
worker, and the queue decides about the task. Nothing durable lies in the cluster. Where that is not
our own, workers come and go with its nodes, and those that do not see our cache get the assets that
they need from it, and send those that they make.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

from editsweep.errors import WorkerError
from editsweep.model.cache import cache_root
from editsweep.run.assets import Files, asset_folder, files_of, keep_files
from editsweep.run.cluster import joined, living_nodes, place_of, private_cluster, ray_library
from editsweep.run.layout import Layout, room
from editsweep.run.ray_meters import watch_gpus
from editsweep.run.tasks import AssetTask, BaseTask, Died, Event, Failure, Outcome, Task
from editsweep.run.worker import Worker

GONE = "the worker process died"
UNREACHABLE = "the worker cannot be reached"
LOOK_S = 2.0
# How long a node may take to be known as lost, after its workers cannot be reached any more.
VERDICT_S = 30.0
FAILED_STARTS = 4


@dataclass
class _Actor:
    """A worker; it has a `node` once it runs, and until then the reference of its first call.

    It `shares` our cache where the same folder is its own.
    """

    handle: Any
    first: Any
    node: str = ""
    shares: bool = True


@dataclass(frozen=True)
class _Flight:
    """A task on a worker since `since`, not to run beyond `until`; both in seconds."""

    worker: int
    task_id: str
    since: float
    until: float = float("inf")


@dataclass(frozen=True)
class _Parcel:
    """An asset's files in the cluster, got when they are asked for."""

    reference: Any

    def __call__(self) -> Files:
        files: Files = ray_library().get(self.reference)
        return files


class RayPool:
    """Workers as Ray actors, in a cluster of their own on this machine or in a running one."""

    def __init__(
        self,
        layout: Layout,
        cache: Path | None = None,
        address: str | None = None,
        most: int | None = None,
        unit_timeout: float | None = None,
        metrics_port: int | None = None,
    ) -> None:
        """Workers as `layout` says, with assets under `cache`; `address` names a running cluster.

        With `most` there are so many as the cluster has room for, up to that. A worker that has a
        unit for more than `unit_timeout` seconds is ended. A cluster of our own has its
        metrics at `metrics_port`, if that is given.
        """
        self._layout = layout
        self._cache = cache
        self._root = cache or cache_root()
        self._parcels: dict[str, _Parcel] = {}
        self._address = address
        self._most = most
        self._wanted = layout.workers
        self._unit_timeout = unit_timeout
        self._metrics_port = metrics_port
        self._held = ExitStack()
        self._numbers = count()
        self._actors: dict[int, _Actor] = {}
        self._flying: dict[Any, _Flight] = {}
        # With their nodes, and what the error said.
        self._unreachable: list[tuple[_Flight, str, str]] = []
        self._failed_starts = 0
        self._looked = 0.0

    def __enter__(self) -> Self:
        """Start or join the cluster, and the actors in it."""
        try:
            self._ray = ray_library()
            self._mark = self._held.enter_context(_mark(self._root))
            if self._address is None:
                own = private_cluster(self._ray, self._layout, self._metrics_port)
                self._held.enter_context(own)
            else:
                self._held.enter_context(joined(self._ray, self._address))
            self._class = self._ray.remote(
                num_cpus=self._layout.threads,
                # An actor is one process, so Ray takes all of its GPUs from one node by itself.
                num_gpus=self._layout.gpus,
                max_restarts=0,
                max_task_retries=0,
            )(Worker)
            self._follow()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End our actors, and the cluster if it is ours."""
        for worker in list(self._actors):
            self._end(worker)
        self._held.close()

    def idle(self) -> list[int]:
        """The workers that run and have no task; one for which there is no room yet does not."""
        busy = {flight.worker for flight in self._flying.values()}
        return [n for n, actor in self._actors.items() if actor.node and n not in busy]

    def submit(self, worker: int, task: Task) -> None:
        """Send a task to an idle worker."""
        actor = self._actors[worker]
        sent = task if actor.shares else self._with_parcels(task)
        reference = actor.handle.run.remote(sent)
        flight = _Flight(worker, task.task_id, monotonic())
        if self._unit_timeout is not None and not isinstance(task, AssetTask):
            flight = _Flight(worker, task.task_id, flight.since, flight.since + self._unit_timeout)
        self._flying[reference] = flight

    def wait(self, seconds: float) -> list[Event]:
        """What is ready, in the order it was sent; then what took too long.

        Raises:
            WorkerError: one worker after the other does not start.
        """
        starting = {a.first: n for n, a in self._actors.items() if not a.node}
        waiting = [*self._flying, *starting]
        if waiting:
            self._ray.wait(waiting, num_returns=1, timeout=seconds)
            waiting, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        else:
            sleep(seconds)
        events = []
        for reference in waiting:
            if reference in starting:
                self._started(starting[reference])
            elif event := self._event(reference):
                events.append(event)
        events += [*self._verdicts(), *self._overdue()]
        self._follow()
        return events

    def drop(self, task_id: str) -> None:
        """End the workers that still have this task; others come in their place."""
        for reference in [r for r, flight in self._flying.items() if flight.task_id == task_id]:
            self._end(self._flying.pop(reference).worker)
        self._follow()

    def _started(self, worker: int) -> None:
        actor = self._actors[worker]
        try:
            actor.node, actor.shares = self._ray.get(actor.first)
        except self._ray.exceptions.RayError as error:
            self._end(worker)
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS:
                raise WorkerError(
                    f"{FAILED_STARTS} workers did not start, the last: {_lines(error)[-1]}"
                ) from error
        else:
            self._failed_starts = 0

    def _event(self, reference: Any) -> Event | None:
        """What came of a flight; None where that is not known yet."""
        flight = self._flying.pop(reference)
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(reference)
        except errors.ActorUnavailableError as error:
            node = self._end(flight.worker)
            reason = f"{UNREACHABLE}: {_lines(error)[0]}"
            doubt = _Flight(flight.worker, flight.task_id, flight.since, monotonic() + VERDICT_S)
            self._unreachable.append((doubt, node, reason))
            return None
        except (errors.RayActorError, errors.OutOfMemoryError) as error:
            node = self._end(flight.worker)
            return self._died(flight, node, f"{GONE}: {_lines(error)[0]}")
        except errors.ObjectLostError as error:
            self._end(flight.worker)
            return Died(flight.task_id, f"its result is lost: {_lines(error)[0]}", "node_lost")
        except errors.RayError as error:
            return Outcome(flight.task_id, {}, 0.0, "", Failure.of(error))
        if outcome.failure is not None and outcome.failure.is_broken:
            self._end(flight.worker)
            reason = f"each later call would fail too: {outcome.failure.text}"
            return Died(flight.task_id, reason.splitlines()[0], "gpu_failed")
        if outcome.asset is not None:
            keep_files(self._root, outcome.task_id, outcome.asset)
            outcome = replace(outcome, asset=None)
        return outcome

    def _with_parcels(self, task: Task) -> Task:
        """The task with the assets that its worker may lack, or with the wish to be sent its own."""
        if isinstance(task, BaseTask):
            return task
        parcels = {key: parcel for key in task.keys if (parcel := self._parcel(key))}
        if isinstance(task, AssetTask):
            return replace(task, parcels=parcels, send=not parcels)
        return replace(task, parcels=parcels)

    def _parcel(self, key: str) -> _Parcel | None:
        """An asset of our cache, put into the cluster once; None where we have none either."""
        if key not in self._parcels and asset_folder(self._root, key).exists():
            files = files_of(self._root, key)
            if files is not None:
                self._parcels[key] = _Parcel(self._ray.put(files))
        return self._parcels.get(key)

    def _died(self, flight: _Flight, node: str, reason: str) -> Died:
        lost = node not in living_nodes(self._ray)
        return Died(flight.task_id, reason, "node_lost" if lost else "worker_died")

    def _verdicts(self) -> Iterator[Died]:
        """Of workers that could not be reached: whether it was their node."""
        doubts, self._unreachable = self._unreachable, []
        for flight, node, reason in doubts:
            died = self._died(flight, node, reason)
            if died.kind == "node_lost" or monotonic() > flight.until:
                yield died
            else:
                self._unreachable.append((flight, node, reason))

    def _overdue(self) -> Iterator[Died]:
        now = monotonic()
        for reference in [r for r, flight in self._flying.items() if now > flight.until]:
            flight = self._flying.pop(reference)
            self._end(flight.worker)
            reason = f"a unit ran longer than --unit-timeout {self._unit_timeout:g}"
            yield Died(flight.task_id, reason, "timeout")

    def _follow(self) -> None:
        """As many workers as there should be now."""
        if self._address is not None and monotonic() - self._looked > LOOK_S:
            self._looked = monotonic()
            self._look()
        while len(self._actors) < self._wanted:
            self._spawn()
        pending = [worker for worker, actor in self._actors.items() if not actor.node]
        for worker in pending[: max(0, len(self._actors) - self._wanted)]:
            self._end(worker)

    def _look(self) -> None:
        """Which nodes there are: how many workers they hold, and whose workers are lost."""
        nodes = living_nodes(self._ray)
        if self._most is not None:
            fit = room(list(nodes.values()), self._layout.threads, self._layout.gpus)
            self._wanted = min(self._most, fit)
        # A lost worker with a task is heard of by that.
        for worker in self.idle():
            if self._actors[worker].node not in nodes:
                self._end(worker)

    def _spawn(self) -> None:
        handle = self._class.remote(self._layout.threads, self._cache, self._layout.gpus)
        if self._address or self._metrics_port:
            handle.__ray_call__.remote(watch_gpus)
        self._actors[next(self._numbers)] = _Actor(
            handle, handle.__ray_call__.remote(place_of, self._mark)
        )

    def _end(self, worker: int) -> str:
        """End a worker, whatever it does; gives its node."""
        actor = self._actors.pop(worker)
        self._ray.kill(actor.handle, no_restart=True)
        return actor.node


@contextmanager
def _mark(root: Path) -> Iterator[Path]:
    """Within the block a file lies in our cache, by which others see that theirs is the same."""
    folder = root / "drivers"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        yield Path(file.name).relative_to(root)


def _lines(error: Exception) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]
