"""What ROME and R-ROME share: one fact, one layer, one rank-one change Δ = v uᵀ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.editors.base import Asset, Edited, Editor
from editsweep.editors.groups import Ready, each, edit_groups
from editsweep.editors.located import LocatedSpec
from editsweep.errors import EditError
from editsweep.locate.facts import FactRow, Facts, batches, fact_rows
from editsweep.locate.site import MlpOut
from editsweep.locate.value import Search, find_values
from editsweep.model.language_model import LanguageModel
from editsweep.model.layers import Layers
from editsweep.model.patch import LowRank, Patch
from editsweep.model.solve import Metric

Key = Literal["mean", "prompt"]


@dataclass(frozen=True)
class RankOneSpec(LocatedSpec):
    """One block: `layer` None is where the field edits this family, `auto` the traced one."""

    regimes: ClassVar[frozenset[str]] = frozenset({"single", "sequential"})
    scale_free: ClassVar[bool] = True

    layer: int | Literal["auto"] | None = None

    @property
    def place(self) -> Layers:
        """One block."""
        return Layers(self.layer)

    @property
    def keys(self) -> tuple[Key, Key]:
        """The key towards which the change turns, and the one for which it reaches the value."""
        raise NotImplementedError

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layer.
        """
        made = self.located(model, assets)
        (layer,) = made.layers
        metric = made.metrics()[layer]
        return RankOne(model, layer, made.templates, self.search, metric, *self.keys)


@dataclass(frozen=True)
class Solved:
    """One fact's change Δ = v uᵀ: u [d_mlp], v [d], the optimised δ [d]; a loss for each pass."""

    u: Tensor
    v: Tensor
    delta: Tensor
    losses: tuple[float, ...]


@dataclass(frozen=True)
class RankOne:
    """u = C⁻¹k/‖C⁻¹k‖ for the key `direction`; Ŵk = v₀ + δ for the key `reaches`.

    A key is that of the bare prompt, or the mean over all contexts.
    """

    model: LanguageModel
    layer: int
    templates: tuple[str, ...]
    search: Search
    metric: Metric
    direction: Key
    reaches: Key

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One rank-one patch a group of one request; `seed` is unused, contexts are drawn once."""
        rows = each(partial(fact_rows, self.model, self.templates))
        return edit_groups(groups, rows, self._edit)

    def _edit(self, ready: Sequence[Sequence[Ready[list[FactRow]]]]) -> list[Edited]:
        solved = self.solve({index: rows for index, ((_, rows),) in enumerate(ready)})
        return [self._edited(solved[index]) for index in range(len(ready))]

    def solve(self, facts: Mapping[int, Sequence[FactRow]]) -> dict[int, Solved]:
        """Key, value and change of each fact, all in a few batches."""
        solved: dict[int, Solved] = {}
        for chunk, batch in batches(self.model, facts, self.layer):
            solved |= dict(zip(chunk, self._solve(batch), strict=True))
        return solved

    def _solve(self, facts: Facts) -> list[Solved]:
        values = find_values(facts, MlpOut(self.layer), self.search)
        keys = facts.at_subject(facts.told.key).float()
        outputs = facts.at_subject(facts.told.value).float()
        delta, wanted = values.delta[:, 0], (values.start + values.delta)[:, 0]
        u = F.normalize(self.metric.directions(_one(keys, self.direction)), dim=1).to(keys.dtype)
        reach = (_one(keys, self.reaches) * u).sum(1, keepdim=True)
        v = (wanted - _one(outputs, self.reaches)) / reach
        return [Solved(*x) for x in zip(u, v, delta, values.losses, strict=True)]

    def _edited(self, solved: Solved) -> Edited:
        change = LowRank(solved.u[None], solved.v[None])
        patch = Patch({self.model.mlp_out(self.layer): change})
        steps, loss = len(solved.losses), solved.losses[-1]
        if not patch.finite:
            reason = "the value optimisation or the rank-one solve gave a number that is not finite"
            return Edited(steps=steps, error=EditError("not_finite", reason))
        return Edited(patch, steps, loss)


def _one(by_context: Tensor, which: Key) -> Tensor:
    """[facts, contexts, d] to [facts, d]."""
    return by_context[:, 0] if which == "prompt" else by_context.mean(1)
