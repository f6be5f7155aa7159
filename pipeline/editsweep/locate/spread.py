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
        bare = [[edit[:1] for edit in job] for job in jobs]
        now = _by_job(bare, _read(model, bare, patches, reached, stop, inputs=False))
        for index, (key, was, value) in enumerate(zip(keys, now, values, strict=True)):
            missing = (value - was[:, 0]) * share(len(layers) - done)
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
    seen = _by_job(jobs, _read(model, jobs, patches, model.mlp_out(layer), layer + 1, inputs=True))
    return [_mean_key(keys) for keys in seen]


def _mean_key(keys: Tensor) -> Tensor:
    """[n, contexts, d] to [n, d]."""
    if keys.shape[1] == 1:
        return keys[:, 0]
    return (keys[:, 0] + keys[:, 1:].mean(1)) / 2


def _by_job(jobs: Sequence[Sequence[Rows]], flat: Tensor) -> list[Tensor]:
    """[all rows, d] as [n, contexts, d] for each job."""
    parts = flat.split([sum(len(edit) for edit in job) for job in jobs])
    return [p.reshape(len(job), -1, p.shape[1]) for job, p in zip(jobs, parts, strict=True)]


@torch.no_grad()
def _read(
    model: LanguageModel,
    jobs: Sequence[Sequence[Rows]],
    patches: Sequence[Patch],
    module: str,
    stop: int,
    inputs: bool,
) -> Tensor:
    """What enters or leaves `module` at the last token of every row [rows, d], in float32."""
    rows = [(row, index) for index, job in enumerate(jobs) for edit in job for row in edit]
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i][0]), i))
    found: dict[int, Tensor] = {}
    while order:
        room = max(1, model.token_budget // len(rows[order[0]][0]))
        chunk, order = order[:room], order[room:]
        made = TokenRows.of(model, [rows[i][0] for i in chunk])
        seen: list[Tensor] = []

        def see(x: Tensor, y: Any, seen: list[Tensor] = seen) -> None:
            seen.append(x if inputs else y[0] if isinstance(y, tuple) else y)

        with (
            applied(model, [patches[rows[i][1]] for i in chunk]),
            reading(model, module, see),
            only_blocks(model, stop=stop),
        ):
            final_hidden(model, made.ids, made.positions, made.sees)
        last = made.real.sum(1) - 1
        ends = seen[0][torch.arange(len(chunk), device=last.device), last].float()
        found |= dict(zip(chunk, ends, strict=True))
    return torch.stack([found[i] for i in range(len(rows))])
