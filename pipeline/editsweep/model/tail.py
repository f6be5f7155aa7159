"""The part of the model that an edit can change, for fixed rows; the rest is computed once.

Nothing left of a row's first changing position, and nothing below the first edited block, depends
on the edit. `Tail.of` runs the whole rows once and keeps, for each row, the keys and values of its
fixed positions and the hidden states that enter the first edited block at the others; `run` then
runs only later blocks on later positions, as often as an optimiser likes. The result is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from editsweep.model.hooks import entering, only_blocks, reading
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

    `hidden`, `keys` and `values` are those of the unedited model: `hidden` [R, S, d] enters block
    `first`; `key` [R, S, d_mlp] and `value` [R, S, d] are input and output of that block's MLP
    output projection; `final` [R, S, d] comes out of the last norm.
    """

    model: LanguageModel
    first: int
    ids: Tensor
    positions: Tensor
    sees: Tensor
    past: tuple[tuple[Tensor, Tensor], ...]
    hidden: Tensor
    key: Tensor
    value: Tensor
    final: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: LanguageModel, rows: Sequence[TailRow], first: int) -> "Tail":
        """One pass over `rows`; `first` is the lowest block that an edit may touch."""
        fixed = max(row.start for row in rows)
        ids, positions, sees = (t.to(model.device) for t in _aligned(rows, fixed, model))
        cache: Any = DynamicCache()
        seen: dict[str, Tensor] = {}
        block = f"{model.family.blocks}.{first}"
        with (
            reading(model, block, lambda x, _: seen.__setitem__("hidden", x)),
            reading(model, model.mlp_out(first), lambda x, y: seen.update(key=x, value=y)),
        ):
            seen["final"] = final_hidden(
                model, ids, positions, sees, past_key_values=cache, use_cache=True
            )
        late = {name: tensor[:, fixed:].contiguous() for name, tensor in seen.items()}
        past = tuple(
            (layer.keys[:, :, :fixed].contiguous(), layer.values[:, :, :fixed].contiguous())
            for layer in cache.layers[first:]
        )
        return cls(
            model, first, ids[:, fixed:], positions[:, fixed:], sees[:, :, fixed:], past, **late
        )

    def select(self, rows: Tensor) -> "Tail":
        """The same for some rows only; `rows` holds their indices."""
        past = tuple((keys[rows], values[rows]) for keys, values in self.past)
        names = ("ids", "positions", "sees", "hidden", "key", "value", "final")
        return Tail(self.model, self.first, past=past, **{n: getattr(self, n)[rows] for n in names})

    def run(self) -> Tensor:
        """Final hidden states [R, S, d] with whatever hooks are in place; gradients flow."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.past, start=self.first):
            cache.update(keys, values, layer)
        with only_blocks(self.model, self.first), entering(self.model, 0, self.hidden):
            return final_hidden(
                self.model,
                self.ids,
                self.positions,
                self.sees,
                past_key_values=cache,
                use_cache=True,
            )


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
