"""The executor over Ray: plain supervised actors, one task in flight each.

Actors are not restarted by Ray (`max_restarts=0`): the driver sees every death, replaces the
worker, and the queue decides about the task. Nothing durable lies in the cluster.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from editsweep.run.cluster import joined, private_cluster, ray_library
from editsweep.run.layout import Layout
from editsweep.run.ray_meters import watch_gpus
from editsweep.run.tasks import Died, Event, Failure, Outcome, Task
from editsweep.run.worker import Worker

GONE = "the worker process died"


class RayPool:
    """Workers as Ray actors, in a cluster of their own on this machine or in a running one."""

    def __init__(
        self,
        layout: Layout,
        cache: Path | None = None,
        address: str | None = None,
        metrics_port: int | None = None,
    ) -> None:
        """Workers as `layout` says, with assets under `cache`; `address` names a running cluster.

        A cluster of our own has its metrics at `metrics_port`, if that is given.
        """
        self._layout = layout
        self._cache = cache
        self._address = address
        self._metrics_port = metrics_port
        self._held = ExitStack()
        self._actors: dict[int, Any] = {}
        self._flying: dict[Any, tuple[int, str]] = {}

    def __enter__(self) -> Self:
        """Start or join the cluster, and the actors in it."""
        try:
            self._ray = ray_library()
            if self._address is None:
                own = private_cluster(self._ray, self._layout, self._metrics_port)
                self._held.enter_context(own)
            else:
                self._held.enter_context(joined(self._ray, self._address))
            self._class = self._ray.remote(
                num_cpus=self._layout.threads,
                num_gpus=self._layout.gpus,
                max_restarts=0,
                max_task_retries=0,
            )(Worker)
            for index in range(self._layout.workers):
                self._spawn(index)
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End our actors, and the cluster if it is ours."""
        for actor in self._actors.values():
            self._ray.kill(actor, no_restart=True)
        self._actors.clear()
        self._held.close()

    def idle(self) -> list[int]:
        """The workers without a task."""
        busy = {worker for worker, _ in self._flying.values()}
        return [worker for worker in self._actors if worker not in busy]

    def submit(self, worker: int, task: Task) -> None:
        """Send a task to an idle worker."""
        reference = self._actors[worker].run.remote(task)
        self._flying[reference] = (worker, task.task_id)

    def wait(self, seconds: float) -> list[Event]:
        """What is ready, in the order it was sent."""
        if not self._flying:
            return []
        waiting = list(self._flying)
        self._ray.wait(waiting, num_returns=1, timeout=seconds)
        ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self._event(reference) for reference in ready]

    def _event(self, reference: Any) -> Event:
        worker, task_id = self._flying.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._spawn(worker)
            return Died(task_id, f"{GONE}: {_first_line(error)}")
        except self._ray.exceptions.RayError as error:
            return Outcome(task_id, {}, 0.0, "", Failure.of(error))
        return outcome

    def _spawn(self, worker: int) -> None:
        actor = self._class.remote(self._layout.threads, self._cache)
        if self._address or self._metrics_port:
            actor.__ray_call__.remote(watch_gpus)
        self._actors[worker] = actor


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
