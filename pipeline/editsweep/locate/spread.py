"""Many values written into several layers, each layer taking its share of what is still missing.

arXiv 2210.07229, algorithm 1: from the first layer to the last, read each edit's key on the model as
it is by now, and spread the rest of the way to the value over the layers that are left.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from editsweep.model.hooks import only_blocks, reading
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch, applied, low_rank
from editsweep.model.scoring import final_hidden
from editsweep.model.upper import TokenRows

Rows = Sequence[tuple[int, ...]]
"""One edit's contexts as token ids up to the subject's last token, the bare prompt first."""

Solve = Callable[[int, Tensor], Tensor]
"""(layer, keys [n, d_in]) to A [n, d_in], with which the layer's change is Rᵀ A."""


def spread(
    model: LanguageModel,
    jobs: Sequence[Sequence[Rows]],
    values: Sequence[Tensor],
    layers: Sequence[int],
    reached: str,
    solve: Solve,
    share: Callable[[int], float],
) -> list[Patch]:
    """One patch a job; the jobs do not feel each other.

    Args:
        model: as it is before the edits.
        jobs: the edits that share a model, each with its rows.
        values: what the edits of each job shall reach [n, d].
        layers: the blocks that are changed, ascending.
        reached: the module at whose output, at the subject's last token, the values are reached.
        solve: a layer's closed form.
        share: of what is missing, by the number of layers left, this one included.
    """
    patches = [Patch() for _ in jobs]
    stop = layers[-1] + 1
    for done, layer in enumerate(layers):
        keys = subject_keys(model, jobs, patches, layer)
        now = _read(model, jobs, patches, reached, stop, _bare)
        for index, (key, was, value) in enumerate(zip(keys, now, values, strict=True)):
            missing = (value - was) * share(len(layers) - done)
            change = low_rank(solve(layer, key).float(), missing.float())
            patches[index] = Patch({**patches[index].adds, model.mlp_out(layer): change})
    return patches


def subject_keys(
    model: LanguageModel, jobs: Sequence[Sequence[Rows]], patches: Sequence[Patch], layer: int
) -> list[Tensor]:
    """Each edit's key at `layer` on the patched model, by job [n, d_mlp].

    The bare prompt's key counts as much as the mean of the other contexts' (arXiv 2210.07229,
    eq. 19, as in the published code).
    """
    return _read(model, jobs, patches, model.mlp_out(layer), layer + 1, _types, inputs=True)


def _bare(_: int) -> list[float]:
    """The weight of each context: only the bare prompt counts."""
    return [1.0]


def _types(contexts: int) -> list[float]:
    """The weight of each context: the bare prompt's is that of all others together."""
    if contexts == 1:
        return [1.0]
    return [0.5] + [0.5 / (contexts - 1)] * (contexts - 1)


@torch.no_grad()
def _read(
    model: LanguageModel,
    jobs: Sequence[Sequence[Rows]],
    patches: Sequence[Patch],
    module: str,
    stop: int,
    weigh: Callable[[int], list[float]],
    inputs: bool = False,
) -> list[Tensor]:
    """What enters or leaves `module` at the rows' last tokens, weighed over contexts, by job [n, d].

    Each pass is added to the sums at once, so that thousands of edits hold one vector each.
    """
    edits = [(edit, index) for index, job in enumerate(jobs) for edit in job]
    rows = [
        (row, index, place, weight)
        for place, (edit, index) in enumerate(edits)
        for row, weight in zip(edit, weigh(len(edit)), strict=False)
    ]
    rows.sort(key=lambda row: (-len(row[0]), row[2]))
    total: Tensor | None = None
    while rows:
        room = max(1, model.token_budget // len(rows[0][0]))
        chunk, rows = rows[:room], rows[room:]
        made = TokenRows.of(model, [row for row, *_ in chunk])
        seen: list[Tensor] = []

        def see(x: Tensor, y: Any, seen: list[Tensor] = seen) -> None:
            seen.append(x if inputs else y[0] if isinstance(y, tuple) else y)

        with (
            applied(model, [patches[index] for _, index, _, _ in chunk]),
            reading(model, module, see),
            only_blocks(model, stop=stop),
        ):
            final_hidden(model, made.ids, made.positions, made.sees)
        last = made.real.sum(1) - 1
        ends = seen[0][torch.arange(len(chunk), device=last.device), last].float()
        if total is None:
            total = ends.new_zeros(len(edits), ends.shape[1])
        places, weights = zip(*((place, weight) for _, _, place, weight in chunk), strict=True)
        share = ends.new_tensor(weights)[:, None]
        total.index_add_(0, torch.tensor(places, device=ends.device), ends * share)
    assert total is not None
    return list(total.split([len(job) for job in jobs]))
