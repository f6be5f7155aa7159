"""What MEMIT and its kin share: a value for each edit, spread over layers in closed form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.editors.base import Edited, State
from editsweep.editors.groups import Ready, divided, each, edit_groups
from editsweep.editors.located import Located, LocatedSpec
from editsweep.errors import ConfigError, EditError
from editsweep.locate.facts import batches, fact_rows, subject_rows
from editsweep.locate.site import BlockOut, Site
from editsweep.locate.spread import spread, subject_keys
from editsweep.locate.value import Search, find_values
from editsweep.model.language_model import LanguageModel
from editsweep.model.layers import Layers
from editsweep.model.patch import Patch

Solve = Callable[[int, Tensor, State], Tensor]
"""(layer, keys [n, d_in], state of the sequence) to A [n, d_in]: the change is Rᵀ A."""


@dataclass(frozen=True)
class SpreadSpec(LocatedSpec):
    """`layers` None are those where the field edits this family, `auto` those around the traced one.

    `usual` is how many there are where they are not named.
    """

    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})
    usual: ClassVar[int] = 5

    contexts: int = 5
    layers: tuple[int, ...] | Literal["auto"] | None = None

    @property
    def place(self) -> Layers:
        """Neighbouring blocks, unless they are named."""
        return Layers(self.layers, self.usual)


@dataclass(frozen=True)
class WeightedSpec(SpreadSpec):
    """`weight` is λ, how much C counts; None is this model's own, in `weights` by its name.

    λ belongs to the scale of C and of the keys: published for the larger models, measured for the
    small one (docs/closed-form.md).
    """

    weights: ClassVar[Mapping[str, float]]

    weight: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        super().__post_init__()
        if self.weight is not None and self.weight <= 0:
            raise ConfigError(f"{self.name}: weight must be positive")

    def weight_for(self, model: LanguageModel) -> float:
        """λ for `model`."""
        return self.weight or self.weights.get(model.name, self.weights[""])


@dataclass(frozen=True)
class Value:
    """What one edit shall reach [d], and how the search for it went."""

    target: Tensor
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Spreading:
    """`site` is where values are searched, and the output of module `reached` where they are reached.

    `share` is the part of the missing that a layer takes, by the number of layers left. Where
    `remembers`, the keys' ΣKᵀK of a sequence is kept by layer as `keys.<layer>`, read on the
    edited model (arXiv 2410.02355, section 3.4).
    """

    model: LanguageModel
    layers: tuple[int, ...]
    templates: tuple[str, ...]
    search: Search
    site: Site
    reached: str
    solve: Solve
    share: Callable[[int], float]
    remembers: bool = False

    @classmethod
    def over_blocks(
        cls, made: Located, search: Search, solve: Solve, remembers: bool = False
    ) -> "Spreading":
        """Values in the residual stream of the last layer, what is missing shared out evenly."""
        last = made.layers[-1]
        return cls(
            made.model,
            made.layers,
            made.templates,
            search,
            BlockOut(last),
            f"{made.model.family.blocks}.{last}",
            solve,
            lambda left: 1 / left,
            remembers,
        )

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One patch a group; `seed` is not used, contexts are drawn once."""
        return self._edit(groups, {})

    def edit_next(
        self, group: Sequence[EditRequest], state: State, seed: int
    ) -> tuple[Edited, State]:
        """One step of a sequence; a failed one leaves the state."""
        (edited,) = self._edit([group], state)
        if edited.patch is None or not self.remembers:
            return edited, state
        kept = [r for i, r in enumerate(group) if i not in edited.left_out]
        return edited, self._remembered(kept, edited.patch, state)

    def values(self, requests: Sequence[EditRequest]) -> list[Value | EditError]:
        """What each request shall reach, searched in a few batches."""
        rows, errors = divided(each(partial(fact_rows, self.model, self.templates))(requests))
        found: dict[int, Value | EditError] = {**errors}
        for chunk, facts in batches(self.model, rows, self.site.tail_layer):
            made = find_values(facts, self.site, self.search)
            # Of several parts the last is what is written.
            targets = (made.start + made.delta)[:, -1]
            for index, target, losses in zip(chunk, targets, made.losses, strict=True):
                if bool(torch.isfinite(target).all()):
                    found[index] = Value(target, losses)
                else:
                    found[index] = EditError("not_finite", "the search for a value diverged")
        return [found[index] for index in range(len(requests))]

    def written(
        self,
        groups: Sequence[Sequence[EditRequest]],
        values: Sequence[Sequence[Value]],
        state: State,
    ) -> list[Patch]:
        """One patch a group that takes its requests to their values, none of them empty.

        Raises:
            EditError: a request has no subject.
        """
        rows = [[subject_rows(self.model, self.templates, r) for r in group] for group in groups]
        targets = [torch.stack([value.target for value in group]) for group in values]
        solve = partial(_solved, self.solve, state)
        return spread(self.model, rows, targets, self.layers, self.reached, solve, self.share)

    def _edit(self, groups: Sequence[Sequence[EditRequest]], state: State) -> list[Edited]:
        def edit(ready: Sequence[Sequence[Ready[Value]]]) -> list[Edited]:
            values = [[value for _, value in group] for group in ready]
            patches = self.written([[r for r, _ in group] for group in ready], values, state)
            return [_edited(*made) for made in zip(patches, values, strict=True)]

        return edit_groups(groups, self.values, edit)

    def _remembered(self, group: Sequence[EditRequest], patch: Patch, state: State) -> State:
        job = [subject_rows(self.model, self.templates, request) for request in group]
        kept = dict(state)
        for layer in self.layers:
            (keys,) = subject_keys(self.model, [job], [patch], layer)
            name, seen = f"keys.{layer}", keys.double().T @ keys.double()
            kept[name] = kept[name].to(seen) + seen if name in kept else seen
        return kept


def _solved(solve: Solve, state: State, layer: int, keys: Tensor) -> Tensor:
    return solve(layer, keys, state)


def _edited(patch: Patch, values: Sequence[Value]) -> Edited:
    """The outcome of the edits of a group that have a value."""
    steps = max(len(value.losses) for value in values)
    loss = sum(value.losses[-1] for value in values) / len(values)
    if not patch.finite:
        reason = "the closed form gave a number that is not finite"
        return Edited(steps=steps, error=EditError("not_finite", reason))
    return Edited(patch, steps, loss)
