"""Many questions in few tokens: each distinct prefix of a patch's questions is computed once.

The questions put to one patch form a tree of tokens (a trie). Its nodes, in order of insertion,
make one row of a batch; a node sees its ancestors only, and its position is its depth. So aliases
share their prompt, probes share their beginnings, and a long demonstration is read once an edit.
Rows are then packed by length under a token budget.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

# Attention over a row costs its length squared; past this, rows without much in common are cut.
ROW_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Query:
    """`ids[start:]` are to be scored after `ids[:start]`, under patch number `patch`."""

    patch: int
    ids: tuple[int, ...]
    start: int


@dataclass
class Row:
    """One tree of tokens under one patch, and where in it each query's tokens are predicted."""

    patch: int
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    places: dict[int, list[int]] = field(default_factory=dict)
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def lacking(self, query: Query) -> int:
        """How many nodes `query` would add."""
        node = -1
        for known, token in enumerate(query.ids[:-1]):
            node = self._children.get((node, token), -2)
            if node == -2:
                return len(query.ids) - 1 - known
        return 0

    def add(self, index: int, query: Query) -> None:
        """Put query number `index` in; its last token is predicted, never read."""
        node, path = -1, []
        for depth, token in enumerate(query.ids[:-1]):
            child = self._children.get((node, token))
            if child is None:
                child = len(self.tokens)
                self._children[node, token] = child
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(depth)
            node = child
            path.append(node)
        self.places[index] = path[query.start - 1 :]


def rows_of(queries: Sequence[Query], budget: int) -> list[Row]:
    """The trees of `queries`, at least one row a patch, none mixing two patches.

    A row is cut at ROW_TOKENS, or at four times the beginning that all of its patch's queries
    share where that is long: computing a long beginning twice costs more than wide attention.
    """
    by_patch: dict[int, list[int]] = defaultdict(list)
    for index, query in enumerate(queries):
        by_patch[query.patch].append(index)
    rows = []
    for patch in sorted(by_patch):
        order = sorted(by_patch[patch], key=lambda i: (queries[i].ids, queries[i].start))
        shared = _common(queries[order[0]].ids, queries[order[-1]].ids)
        limit = min(budget, max(ROW_TOKENS, 4 * shared))
        row = Row(patch)
        for index in order:
            if row.tokens and len(row.tokens) + row.lacking(queries[index]) > limit:
                rows.append(row)
                row = Row(patch)
            row.add(index, queries[index])
        rows.append(row)
    return rows


def batches(rows: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Rows of like length together, each batch within `budget` tokens, or a single row."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda r: -len(r.tokens)):
        if batch and (len(batch) + 1) * len(batch[0].tokens) > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def tensors(batch: Sequence[Row], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids [rows, tokens], positions [rows, tokens] and who sees whom [rows, 1, tokens, tokens].

    Padding, on the right, sees itself alone and is seen by nobody.
    """
    width = max(len(row.tokens) for row in batch)
    ids = torch.full((len(batch), width), pad)
    positions = torch.zeros(len(batch), width, dtype=torch.long)
    sees = torch.eye(width, dtype=torch.bool).repeat(len(batch), 1, 1)
    for i, row in enumerate(batch):
        length = len(row.tokens)
        ids[i, :length] = torch.tensor(row.tokens)
        positions[i, :length] = torch.tensor(row.depths)
        sees[i, :length, :length] = _ancestors(row.parents)
    return ids, positions, sees[:, None]


def _ancestors(parents: Sequence[int]) -> Tensor:
    """[n, n] booleans: row i is true at i and at each of its ancestors."""
    sees = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            sees[node] |= sees[parent]
    return sees


def _common(p: Sequence[int], q: Sequence[int]) -> int:
    """Length of the common beginning; of the first and last of a sorted list, that of all."""
    alike = 0
    for a, b in zip(p, q, strict=False):
        if a != b:
            break
        alike += 1
    return alike
