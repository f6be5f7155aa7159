"""An edit is a value: what to add to which linear modules' outputs, and what to say beforehand.

The base model is never written. A forward pass takes one patch a row, so rows answered by
differently edited models share a batch.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from editsweep.model.hooks import Addend, adding
from editsweep.model.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class LowRank:
    """y += (x aᵀ) b at one linear module; a [rank, d_in], b [rank, d_out]."""

    a: Tensor
    b: Tensor

    def delta(self) -> Tensor:
        """The weight change [d_out, d_in]."""
        return self.b.T @ self.a

    @property
    def rank(self) -> int:
        """An upper bound of the change's rank."""
        return self.a.shape[0]

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What is saved."""
        return {"a": self.a, "b": self.b}

    def norm(self) -> float:
        """Frobenius norm of the change, by way of the two Gram matrices."""
        gram = (self.a @ self.a.T).double() * (self.b @ self.b.T).double()
        return float(gram.sum().clamp(min=0).sqrt())


@dataclass(frozen=True, eq=False)
class Dense:
    """y += x dᵀ at one linear module; d [d_out, d_in]."""

    d: Tensor

    def delta(self) -> Tensor:
        """The weight change [d_out, d_in]."""
        return self.d

    @property
    def rank(self) -> int:
        """An upper bound of the change's rank."""
        return min(self.d.shape)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What is saved."""
        return {"d": self.d}

    def norm(self) -> float:
        """Frobenius norm of the change."""
        return float(self.d.double().norm())


Change = LowRank | Dense


@dataclass(frozen=True, eq=False)
class Patch:
    """One edit: `adds` by the name of the linear module, `prefix` in front of every prompt."""

    adds: Mapping[str, Change] = field(default_factory=dict)
    prefix: str = ""

    @property
    def norm(self) -> float:
        """Frobenius norm over all touched matrices."""
        return math.sqrt(sum(change.norm() ** 2 for change in self.adds.values()))

    @property
    def rank(self) -> int:
        """The largest rank of a change; 0 when no matrix is touched."""
        return max((change.rank for change in self.adds.values()), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes that the patch holds."""
        held = (t.nbytes for change in self.adds.values() for t in change.tensors.values())
        return sum(held) + len(self.prefix.encode())

    @property
    def finite(self) -> bool:
        """Whether every number is finite."""
        tensors = (t for change in self.adds.values() for t in change.tensors.values())
        return all(bool(torch.isfinite(t).all()) for t in tensors)


def low_rank(a: Tensor, b: Tensor) -> Change:
    """bᵀ a as two factors, or as one matrix where that holds fewer numbers."""
    smaller = a.numel() + b.numel() <= a.shape[1] * b.shape[1]
    return LowRank(a, b) if smaller else Dense(b.T @ a)


def added(p: Patch, q: Patch) -> Patch:
    """Both patches in one: the changes summed, the prefixes one after the other."""
    adds = dict(p.adds)
    for name, change in q.adds.items():
        adds[name] = _sum(adds[name], change) if name in adds else change
    return Patch(adds, p.prefix + q.prefix)


def _sum(p: Change, q: Change) -> Change:
    if isinstance(p, LowRank) and isinstance(q, LowRank):
        return low_rank(torch.cat([p.a, q.a]), torch.cat([p.b, q.b]))
    return Dense(p.delta() + q.delta())


def difference(p: Patch | None, q: Patch | None) -> float:
    """Relative distance of two patches' weight changes, infinite when they touch other things."""
    p, q = p or Patch(), q or Patch()
    if p.adds.keys() != q.adds.keys() or p.prefix != q.prefix:
        return float("inf")
    apart = sum(float((p.adds[n].delta() - q.adds[n].delta()).norm()) ** 2 for n in p.adds)
    return math.sqrt(apart) / max(p.norm, q.norm) if apart else 0.0


@contextmanager
def applied(model: LanguageModel, rows: Sequence[Patch | None]) -> Iterator[None]:
    """Within the block, row i of every batch is answered by the model edited with rows[i].

    Prefixes are text and not seen here: whoever writes the prompts puts them in front.
    """
    touched: dict[str, dict[int, Change]] = defaultdict(dict)
    for index, patch in enumerate(rows):
        for name, change in (patch.adds if patch else {}).items():
            touched[name][index] = change
    with adding(model, {name: _addend(changes, len(rows)) for name, changes in touched.items()}):
        yield


def _addend(changes: Mapping[int, Change], n_rows: int) -> Addend:
    """What `changes`, by row, add to a module's output; computed in the patch's own precision."""
    low = {row: change for row, change in changes.items() if isinstance(change, LowRank)}
    dense: dict[int, tuple[Dense, list[int]]] = {}
    for row, change in changes.items():
        if isinstance(change, Dense):
            dense.setdefault(id(change), (change, []))[1].append(row)
    a, b = _stacked(low, n_rows) if low else (None, None)

    def add(x: Tensor) -> Tensor:
        if a is not None and b is not None:
            y = ((x.to(a.dtype) @ a.mT) @ b).to(x.dtype)
        else:
            d_out = next(iter(dense.values()))[0].d.shape[0]
            y = x.new_zeros(*x.shape[:-1], d_out)
        for change, rows in dense.values():
            y[rows] += (x[rows].to(change.d.dtype) @ change.d.T).to(x.dtype)
        return y

    return add


def _stacked(low: Mapping[int, LowRank], n_rows: int) -> tuple[Tensor, Tensor]:
    """a [rows, rank, d_in] and b [rows, rank, d_out], zero where a row has no such change.

    One change that all rows share stays one: a batch of thousands of edits has a large rank.
    """
    rank, some = max(change.rank for change in low.values()), next(iter(low.values()))
    if len(low) == n_rows and all(change is some for change in low.values()):
        return some.a, some.b
    a = some.a.new_zeros(n_rows, rank, some.a.shape[1])
    b = some.b.new_zeros(n_rows, rank, some.b.shape[1])
    for row, change in low.items():
        a[row, : change.rank], b[row, : change.rank] = change.a, change.b
    return a, b
