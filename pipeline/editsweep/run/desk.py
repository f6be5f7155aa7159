"""Where a training's workers leave what their driver takes; light, as a process of its own imports it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from editsweep.run.tasks import Failure

Line = Mapping[str, float]


class Desk:
    """An actor between rank 0 and the driver: lines of the curve, and an error that ends it all."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._failure: Failure | None = None

    def put(self, line: Line) -> None:
        """A new line, or an old one after a restart."""
        self._lines.append(line)

    def fail(self, failure: "Failure") -> None:
        """What no further try would mend."""
        self._failure = self._failure or failure

    def take(self) -> "tuple[list[Line], Failure | None]":
        """The lines since the last call, and the error if there is one."""
        lines, self._lines = self._lines, []
        return lines, self._failure
