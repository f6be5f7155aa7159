"""The last blocks of a model, run alone: what enters them does not depend on an edit made in them.

`Below` computes the hidden states that enter block `first` once for each row of tokens; `run_upper` goes on from there, as often as a trainer likes, with gradients. It is exact.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from editsweep.core.ids import content_id
from editsweep.model.cache import publish
from editsweep.model.hooks import entering, only_blocks, reading
from editsweep.model.language_model import LanguageModel
from editsweep.model.scoring import final_hidden


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens padded on the right; padding sees itself alone and nobody sees it.

    `ids` and `positions` [rows, tokens], `sees` [rows, 1, tokens, tokens], `real` [rows, tokens].
    """

    ids: Tensor
    positions: Tensor
    sees: Tensor
    real: Tensor

    @classmethod
    def of(cls, model: LanguageModel, rows: Sequence[Sequence[int]], width: int = 0) -> "TokenRows":
        """The rows on the model's device, at least `width` tokens wide."""
        width = max(width, *(len(row) for row in rows))
        ids = torch.full((len(rows), width), model.tokenizer.pad_token_id)
        real = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], real[i, : len(row)] = torch.tensor(row), True
        positions = torch.arange(width).expand(len(rows), width)
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        alone = torch.eye(width, dtype=torch.bool)
        sees = (causal & real[:, None, :] & real[:, :, None]) | alone
        made = (ids, positions, sees[:, None], real)
        return cls(*(tensor.to(model.device) for tensor in made))


Tokens = tuple[int, ...]


@dataclass
class Below:
    """Hidden states that enter block `first`, by row of tokens, kept in memory and in a folder.

    A planned row is always computed together with the rows that it was planned with, so what it
    gives is the same bits whoever asks for it, and when. The oldest leave memory when it is full.
    """

    model: LanguageModel
    first: int
    folder: Path | None = None
    memory_bytes: int = 4 * 2**30
    _home: dict[Tokens, tuple[Tokens, ...]] = field(default_factory=dict)
    _kept: dict[Tokens, Tensor] = field(default_factory=dict)
    _bytes: int = 0

    def plan(self, batches: Iterable[Sequence[Tokens]]) -> None:
        """Say which rows will be wanted; those of a batch are computed together, once."""
        for batch in batches:
            new = tuple(sorted({row for row in batch if row not in self._home}))
            self._home |= dict.fromkeys(new, new)

    def forget(self) -> None:
        """Keep nothing in memory from now on."""
        self.memory_bytes = self._bytes = 0
        self._kept.clear()

    def hidden(self, rows: Sequence[Tokens]) -> Tensor:
        """[rows, tokens, d], zero at padding."""
        found = {row: self._kept[row] for row in rows if row in self._kept}
        unplanned = []
        for row in rows:
            if row in found:
                continue
            if row not in self._home:
                unplanned.append(row)
                continue
            read = self._read(self._home[row])
            self._keep(read)
            found |= read
        found |= self._computed(tuple(dict.fromkeys(unplanned)))
        return pad_sequence([found[row] for row in rows], batch_first=True)

    def _read(self, batch: tuple[Tokens, ...]) -> dict[Tokens, Tensor]:
        """From the folder; computed and put there if it is not there yet."""
        if self.folder is None:
            return self._computed(batch)
        key = content_id([self.model.id, str(self.model.module.dtype), self.first, batch])
        target = self.folder / key[:2] / f"{key}.safetensors"
        if not target.exists():
            made = {str(i): t for i, t in enumerate(self._computed(batch).values())}
            publish(lambda path: save_file(made, path), target)
        read = load_file(target, device=str(self.model.device))
        return {row: read[str(i)] for i, row in enumerate(batch)}

    def _computed(self, rows: tuple[Tokens, ...]) -> dict[Tokens, Tensor]:
        """In passes of rows of like length."""
        made: dict[Tokens, Tensor] = {}
        order = sorted(rows, key=lambda row: (len(row), row))
        while order:
            fits = max(1, self.model.token_budget // len(order[-1]))
            order, batch = order[:-fits], order[-fits:]
            entered = enter(self.model, TokenRows.of(self.model, batch), self.first)
            made |= {row: entered[i, : len(row)].clone() for i, row in enumerate(batch)}
        return {row: made[row] for row in rows}

    def _keep(self, read: Mapping[Tokens, Tensor]) -> None:
        for row, hidden in read.items():
            self._kept[row] = hidden
            self._bytes += hidden.nbytes
        while self._bytes > self.memory_bytes:
            self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes


@torch.no_grad()
def enter(model: LanguageModel, rows: TokenRows, first: int) -> Tensor:
    """What enters block `first` [rows, tokens, d]."""
    seen: list[Tensor] = []
    block = f"{model.family.blocks}.{first}"
    with reading(model, block, lambda x, _: seen.append(x)), only_blocks(model, stop=first + 1):
        final_hidden(model, rows.ids, rows.positions, rows.sees)
    return seen[0]


def run_upper(model: LanguageModel, rows: TokenRows, hidden: Tensor, first: int) -> Tensor:
    """Final hidden states [rows, tokens, d] from `hidden`, which enters block `first`.

    Gradients flow through whatever hooks add on the way.
    """
    with only_blocks(model, first), entering(model.blocks[first], hidden):
        return final_hidden(model, rows.ids, rows.positions, rows.sees)
