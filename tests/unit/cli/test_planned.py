"""A plan's time in words."""

import pytest

from editsweep.cli.planned import time_lines
from editsweep.run.estimate import CellTime, Estimate

CELL = CellTime(8, 1.25, 10.0, "this sweep", "NVIDIA H100")


def told(**changed):
    fields = {"cells": {"c": CELL}, "workers": 2, "wall_s": 95.0, "gpu_hours": 0.25, "unknown": ()}
    return time_lines(Estimate(**{**fields, **changed}))


def test_time_and_gpu_hours():
    assert told() == ["Time: about 1:35 on 2 workers, 0.25 GPU hours (measured on NVIDIA H100)"]
    assert told(gpu_hours=None, workers=1)[0].startswith("Time: about 1:35 on 1 worker (")


def test_what_is_not_known_is_not_hidden():
    first, second = told(unknown=("rome", "ike"))
    assert first.startswith("Time: at least 1:35 on 2 workers")
    assert second.startswith("Nothing like it was measured yet: rome, ike. ")
    none = CellTime(8, None, None, "unknown", "")
    first, second = told(cells={"c": none}, wall_s=0.0, unknown=tuple("abcdefgh"))
    assert first == "Time: unknown"
    assert "a, b, c, d, e, f and 2 more. " in second


@pytest.mark.parametrize("unknown", [(), ("rome",)])
def test_nothing_left(unknown):
    done = CellTime(0, 1.25, 0.0, "this sweep", "")
    assert told(cells={"c": done}, unknown=unknown) == ["Time: nothing is left to do"]
