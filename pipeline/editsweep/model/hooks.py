"""Context managers over torch hooks: what is put in is taken out again, whatever happens.

What goes in and comes out lies on `LanguageModel.device`, also where the hooked block is elsewhere
(`model/placement.py`); on one device nothing is copied.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from editsweep.model.language_model import LanguageModel

Addend = Callable[[Tensor], Tensor]


def moved(value: Any, device: torch.device) -> Any:
    """`value` with all tensors in its tuples, lists and dicts on `device`; other things as they are."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: moved(item, device) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(moved(item, device) for item in value)
    return value


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters lie."""
    return next(module.parameters()).device


@contextmanager
def held(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Hooks for the length of the block; also where a later one cannot be put in."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


@contextmanager
def adding(model: LanguageModel, addends: Mapping[str, Addend]) -> Iterator[None]:
    """Within the block, module `name` returns y + addends[name](x) instead of y.

    x [rows, tokens, d_in] is the module's input, y [rows, tokens, d_out] its output.
    """
    home = model.device

    def hook(addend: Addend) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        return lambda _module, inputs, output: output + addend(inputs[0].to(home)).to(output.device)

    with held(
        model.module.get_submodule(name).register_forward_hook(hook(addend))
        for name, addend in addends.items()
    ):
        yield


@contextmanager
def reading(
    model: LanguageModel, module: str, see: Callable[[Tensor, Any], None]
) -> Iterator[None]:
    """Within the block, `see(input, output)` is called at each pass through `module`."""
    home = model.device

    def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        seen, there = moved(output, home), _first(output).device
        see(_hidden(args, kwargs).to(home), seen)
        # What was seen goes on, so that it has gradients.
        return None if there == home else moved(seen, there)

    watched = model.module.get_submodule(module)
    with held([watched.register_forward_hook(hook, with_kwargs=True)]):
        yield


@contextmanager
def entering(module: nn.Module, hidden: Tensor) -> Iterator[None]:
    """Within the block, `module` takes `hidden` [rows, tokens, d] for its first input."""
    given = hidden.to(device_of(module))

    def swap(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (given, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": given}

    with held([module.register_forward_pre_hook(swap, with_kwargs=True)]):
        yield


@contextmanager
def only_blocks(model: LanguageModel, first: int = 0, stop: int | None = None) -> Iterator[None]:
    """Within the block, only blocks first..stop-1 do anything; those before pass their input on.

    They keep their places, because some models look up masks and rotations by a block's index.
    """
    path, _, name = model.family.blocks.rpartition(".")
    parent, blocks = model.module.get_submodule(path), model.blocks
    idle = [_Idle(model.family.block_returns == "tuple")] * first
    setattr(parent, name, nn.ModuleList([*idle, *list(blocks)[first:stop]]))
    try:
        yield
    finally:
        setattr(parent, name, blocks)


class _Idle(nn.Module):
    """A block that does nothing."""

    def __init__(self, returns_tuple: bool) -> None:
        super().__init__()
        self.returns_tuple = returns_tuple

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        """What came in, in the form in which this family's blocks return it."""
        return (hidden_states,) if self.returns_tuple else hidden_states


def _first(output: Any) -> Tensor:
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first


def _hidden(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden
