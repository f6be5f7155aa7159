"""The most memory that a piece of work held beyond what was held before it."""

import ctypes
from pathlib import Path
from typing import Self

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): the peak resident set size becomes the current one


class Peak:
    """`megabytes` after the block: of the GPU where there is one, else resident (Linux; else nan)."""

    megabytes = float("nan")

    def __enter__(self) -> Self:
        """Reset the peak."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._before = float(torch.cuda.memory_allocated())
        elif _CLEAR.exists():
            _give_back()
            _CLEAR.write_text(_RESET_PEAK)
            self._before = _field("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        """Read it."""
        if torch.cuda.is_available():
            self.megabytes = (torch.cuda.max_memory_allocated() - self._before) / 2**20
        elif _CLEAR.exists():
            self.megabytes = (_field("VmHWM") - self._before) / 2**20


def _give_back() -> None:
    """Free memory that the C library keeps would be used first, and a peak within it not be seen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc has it
        trim(0)


def _field(name: str) -> float:
    """Bytes of one line of this process's status."""
    line = next(x for x in _STATUS.read_text().splitlines() if x.startswith(f"{name}:"))
    return 1024 * float(line.split()[1])
