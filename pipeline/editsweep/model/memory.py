"""Work that is cut in half when there is no memory for all of it at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch

from editsweep.errors import EditError

T = TypeVar("T")
R = TypeVar("R")


def out_of_memory(error: RuntimeError) -> bool:
    """Whether `error` says that a device or the host has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def device_broken(error: BaseException) -> bool:
    """Whether `error` says that this process can do nothing more on its GPU.

    After a failed kernel (a device-side assert, an illegal address) each later call fails too.
    """
    is_device = isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)
    return is_device and "out of memory" not in str(error)


def in_halves(
    batches: Iterable[Sequence[T]], do: Callable[[Sequence[T]], R], alone: Callable[[T, str], R]
) -> Iterator[R]:
    """`do` of each batch, in order; a batch for which there is no memory goes in two halves.

    Args:
        batches: none of them empty.
        do: what is done with a batch; it is called again with each half, so it must not keep
            anything of a call that failed.
        alone: what comes of a single item that does not fit, with what the allocator said.
    """
    todo = deque(batches)
    while todo:
        batch = todo.popleft()
        try:
            found = do(batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            told = str(error)
        else:
            yield found
            continue
        # Only out here has the exception let go of the tensors of the pass.
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if len(batch) == 1:
            yield alone(batch[0], told)
        else:
            half = len(batch) // 2
            todo.extendleft([batch[half:], batch[:half]])


def too_large(what: str, told: str) -> EditError:
    """The error of something that does not fit by itself; `told` is what the allocator said."""
    first = (told.strip().splitlines() or ["no memory"])[0]
    return EditError("out_of_memory", f"{what} does not fit into memory: {first}")
