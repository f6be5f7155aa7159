"""The part of the model that an edit can change, for fixed rows; the rest is computed once.

Nothing left of a row's first changing position, and nothing up to the output of the edited
projection, depends on the edit. `Tail.of` runs the whole rows once and keeps, for each row, the keys
and values of its fixed positions and the edited block's output at the others; `run` adds a change to
that and runs only later blocks on later positions, as often as an optimiser likes. It is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from editsweep.model.hooks import device_of, entering, moved, only_blocks, reading
from editsweep.model.language_model import LanguageModel
from editsweep.model.scoring import final_hidden


@dataclass(frozen=True)
class TailRow:
    """Token ids of which those from `start` on may change."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Tail:
    """R rows: P fixed positions (left-padded), then S positions that may change (right-padded).

    All of it is the unedited model's: `key` [R, S, d_mlp] and `value` [R, S, d] are input and
    output of the MLP output projection of block `layer`, `output` [R, S, d] is what that block
    returns. `past` has keys and values of the later blocks at the fixed positions, if there are any.
    """

    model: LanguageModel
    layer: int
    ids: Tensor
    positions: Tensor
    sees: Tensor
    past: tuple[tuple[Tensor, Tensor], ...]
    output: Tensor
    key: Tensor
    value: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: LanguageModel, rows: Sequence[TailRow], layer: int) -> "Tail":
        """Read `rows` once, for edits of the MLP output projection of block `layer`."""
        fixed = max(row.start for row in rows)
        ids, positions, sees = (t.to(model.device) for t in _aligned(rows, fixed, model))
        cache: Any = DynamicCache()
        seen: dict[str, Tensor] = {}
        if fixed:
            early = (ids[:, :fixed], positions[:, :fixed], sees[:, :, :fixed, :fixed])
            final_hidden(model, *early, past_key_values=cache, use_cache=True)
        late = (ids[:, fixed:], positions[:, fixed:], sees[:, :, fixed:])
        block = f"{model.family.blocks}.{layer}"
        with (
            reading(model, block, lambda _, y: seen.__setitem__("output", _bare(y))),
            reading(model, model.mlp_out(layer), lambda x, y: seen.update(key=x, value=y)),
            only_blocks(model, stop=layer + 1),
        ):
            final_hidden(model, *late, past_key_values=cache, use_cache=True)
        past = tuple((kept.keys, kept.values) for kept in cache.layers[layer + 1 :])
        return cls(model, layer, *late, past, **seen)

    def select(self, rows: Tensor) -> "Tail":
        """The same for some rows only; `rows` holds their indices."""
        past = tuple(
            (keys[rows.to(keys.device)], values[rows.to(values.device)])
            for keys, values in self.past
        )
        names = ("ids", "positions", "sees", "output", "key", "value")
        return Tail(self.model, self.layer, past=past, **{n: getattr(self, n)[rows] for n in names})

    def run(self, change: Tensor, whole_block: bool = False) -> Tensor:
        """Final hidden states [R, S, d] when the edited projection gives `value` + `change`.

        `change` [R, S, d] is added to the block's output instead if `whole_block`; gradients flow.
        """
        model, later = self.model, self.layer + 1
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.past, start=later):
            cache.update(keys, values, layer)
        norm = model.module.get_submodule(model.family.final_norm)
        entrance = model.blocks[later] if later < model.depth else norm
        output = self._output(change, whole_block)
        with only_blocks(model, later), entering(entrance, output):
            return final_hidden(
                model, self.ids, self.positions, self.sees, past_key_values=cache, use_cache=True
            )

    def _output(self, change: Tensor, whole_block: bool) -> Tensor:
        """What the edited block returns."""
        change = change.to(self.output.dtype)
        if whole_block or not self.model.family.mlp_norm:
            return self.output + change
        norm = self.model.blocks[self.layer].get_submodule(self.model.family.mlp_norm)
        value, change = moved((self.value, change), device_of(norm))
        edited: Tensor = (
            self.output
            + norm(value + change).to(self.output.device)
            - norm(value).to(self.output.device)
        )
        return edited


def _bare(output: Any) -> Tensor:
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def _aligned(rows: Sequence[TailRow], fixed: int, model: LanguageModel) -> tuple[Tensor, ...]:
    """Ids, positions and causal visibility with every row's `start` in column `fixed`."""
    width = fixed + max(len(row.ids) - row.start for row in rows)
    ids = torch.full((len(rows), width), model.tokenizer.pad_token_id)
    real = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        span = slice(fixed - row.start, fixed - row.start + len(row.ids))
        ids[i, span], real[i, span] = torch.tensor(row.ids), True
    positions = (real.cumsum(1) - 1).clamp(min=0)
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    alone = torch.eye(width, dtype=torch.bool)  # padding sees itself, or softmax has nothing
    sees = (causal & real[:, None, :] & real[:, :, None]) | alone
    return ids, positions, sees[:, None]
