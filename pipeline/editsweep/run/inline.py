"""The executor without a cluster: one worker, in this process."""

from pathlib import Path
from typing import Self

from editsweep.run.tasks import Event, Task
from editsweep.run.worker import Worker


class InlineExecutor:
    """Runs a task when it is waited for."""

    def __init__(self, threads: int, cache: Path | None = None, gpus: float = 1) -> None:
        """One worker with `threads` threads, `gpus` GPUs or a part of one, assets under `cache`."""
        self._worker = Worker(threads, cache, gpus)
        self._task: Task | None = None

    def __enter__(self) -> Self:
        """Nothing to start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def idle(self) -> list[int]:
        """Worker 0, unless it has a task."""
        return [] if self._task else [0]

    def submit(self, worker: int, task: Task) -> None:
        """Keep the task for `wait`."""
        assert worker == 0
        assert self._task is None
        self._task = task

    def wait(self, seconds: float) -> list[Event]:
        """Run the task to its end, however long that takes."""
        if self._task is None:
            return []
        task, self._task = self._task, None
        return [self._worker.run(task)]

    def drop(self, task_id: str) -> None:
        """Nothing: no task is given out twice."""
