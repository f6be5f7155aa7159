"""Context managers over torch hooks: what is put in is taken out again, whatever happens."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from editsweep.model.language_model import LanguageModel

Addend = Callable[[Tensor], Tensor]


@contextmanager
def adding(model: LanguageModel, addends: Mapping[str, Addend]) -> Iterator[None]:
    """Within the block, module `name` returns y + addends[name](x) instead of y.

    x [rows, tokens, d_in] is the module's input, y [rows, tokens, d_out] its output.
    """

    def hook(addend: Addend) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        return lambda _module, inputs, output: output + addend(inputs[0])

    handles = [
        model.module.get_submodule(name).register_forward_hook(hook(addend))
        for name, addend in addends.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def reading(
    model: LanguageModel, module: str, see: Callable[[Tensor, Any], None]
) -> Iterator[None]:
    """Within the block, `see(input, output)` is called at each pass through `module`."""
    handle = model.module.get_submodule(module).register_forward_hook(
        lambda _module, args, kwargs, output: see(_hidden(args, kwargs), output), with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def entering(model: LanguageModel, layer: int, hidden: Tensor) -> Iterator[None]:
    """Within the block, block `layer` takes `hidden` [rows, tokens, d] for its input."""

    def swap(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    handle = model.blocks[layer].register_forward_pre_hook(swap, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def only_blocks(model: LanguageModel, first: int = 0, stop: int | None = None) -> Iterator[None]:
    """Within the block, the model is made of blocks first..stop-1 alone."""
    path, _, name = model.family.blocks.rpartition(".")
    parent, blocks = model.module.get_submodule(path), model.blocks
    setattr(parent, name, nn.ModuleList(list(blocks)[first:stop]))
    try:
        yield
    finally:
        setattr(parent, name, blocks)


def _hidden(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden
