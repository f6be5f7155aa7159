"""Where tasks run: the one thing that the inline executor and the Ray pool have in common."""

from typing import Protocol, Self

from editsweep.run.tasks import Event, Task


class Executor(Protocol):
    """Workers numbered from 0, each with at most one task. Use it as a context manager."""

    def __enter__(self) -> Self:
        """Start the workers.

        Raises:
            WorkerError: they cannot be started.
        """

    def __exit__(self, *_: object) -> None:
        """End them; what they still do is lost."""

    def idle(self) -> list[int]:
        """The workers without a task."""

    def submit(self, worker: int, task: Task) -> None:
        """Give a task to an idle worker."""

    def wait(self, seconds: float) -> list[Event]:
        """What came of tasks since the last call; waits at most `seconds` for the first.

        A worker that died is replaced before its `Died` is returned.
        """
