"""Where tasks run: the one thing that the inline executor and the Ray pool have in common."""

from typing import Protocol, Self

from editsweep.run.tasks import Event, Task


class Executor(Protocol):
    """Workers known by a number, each with at most one task. Use it as a context manager.

    A worker keeps its number, and one that comes later, also in place of another, has a new one.
    """

    def __enter__(self) -> Self:
        """Start the workers.

        Raises:
            WorkerError: they cannot be started.
        """

    def __exit__(self, *_: object) -> None:
        """End them; what they still do is lost."""

    def idle(self) -> list[int]:
        """The workers that are ready for a task and have none; they may come and go."""

    def submit(self, worker: int, task: Task) -> None:
        """Give a task to an idle worker."""

    def wait(self, seconds: float) -> list[Event]:
        """What came of tasks since the last call; waits at most `seconds` for the first.

        Raises:
            WorkerError: workers cannot be started.
        """

    def drop(self, task_id: str) -> None:
        """End the workers that still have this task; nothing more is heard of it."""
