"""What a person sees while a sweep runs: a bar on a terminal, a plain line now and then elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress

from editsweep.core.scrub import scrubbed

LINE_EVERY_S = 10.0


@dataclass(frozen=True)
class Snapshot:
    """How far a run is: edits (or whatever `unit` names) of the whole, and those of this run."""

    done: int
    total: int
    done_now: int
    seconds: float
    failed: int
    doing: str
    unit: str = "edits"

    @property
    def rate(self) -> float | None:
        """Units a second of this run; None before the first."""
        return self.done_now / self.seconds if self.done_now and self.seconds else None

    @property
    def left(self) -> float | None:
        """Seconds to go at this rate; None before the first unit."""
        return (self.total - self.done) / self.rate if self.rate else None

    def __str__(self) -> str:
        """One plain line."""
        parts = [f"{self.done}/{self.total} {self.unit}"]
        if self.rate:
            parts += [f"{self.rate:.2f} {self.unit}/s", f"{clock(self.left or 0)} left"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [self.doing] if self.doing else []
        return " · ".join(parts)


class Progress(Protocol):
    """Gets a snapshot whenever something changed, and single messages."""

    def update(self, now: Snapshot) -> None:
        """Show `now`, or not."""

    def say(self, message: str) -> None:
        """Show a message of its own."""


class Silent:
    """Shows nothing."""

    def update(self, now: Snapshot) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing."""


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = -LINE_EVERY_S

    def update(self, now: Snapshot) -> None:
        if now.done == now.total or monotonic() - self._last >= LINE_EVERY_S:
            self._last = monotonic()
            self.say(str(now))

    def say(self, message: str) -> None:
        self._console.print(scrubbed(message), markup=False, highlight=False, soft_wrap=True)


class _Bar:
    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._task = self._bar.add_task("", total=None, text="")

    def update(self, now: Snapshot) -> None:
        text = str(now).partition(" · ")[2]
        self._bar.update(
            self._task, description=now.unit, completed=now.done, total=now.total, text=text
        )

    def say(self, message: str) -> None:
        self._bar.console.print(scrubbed(message), markup=False, highlight=False)


@contextmanager
def shown(console: Console) -> Iterator[Progress]:
    """A bar if `console` is a terminal, lines if not."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    bar = _Bar(console)
    with bar._bar:
        yield bar


def clock(seconds: float) -> str:
    """`95` as `1:35`, `3700` as `1:01:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
