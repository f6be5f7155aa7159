"""Making a change smaller than its editor wants it, to keep what the model could do before.

Both ways work on any editor's patch: RECT (arXiv 2401.04700) keeps the entries of a change that are
large beside the weight that they change, PRUNE (arXiv 2405.16821) holds the singular values of a
change down to about the largest of the weight. The prefix of a patch is left alone.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from editsweep.core.names import unknown
from editsweep.errors import ConfigError, EditError
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Change, Dense, LowRank, Patch
from editsweep.model.spectrum import largest_singular_value, spectrum

# What keeps a weight of zero from making every change of it infinitely large.
_EPSILON = 1e-8


def rect(model: LanguageModel, patch: Patch, keep: float = 0.4) -> Patch:
    """RECT: of each matrix's change the share `keep` with the largest |ΔW| / |W| stays, the rest is 0.

    The published code divides by W + 1e-8, which explodes at W = -1e-8, and keeps one entry more
    than the share; here it is |W| + 1e-8 and the share rounded to whole entries.

    Args:
        model: the model that the patch belongs to, with the weights that it is added to.
        patch: the change to restrain.
        keep: share of the entries of each matrix, above 0 and at most 1.
    """
    if keep == 1:
        return patch
    adds = {name: _largest(model, name, change, keep) for name, change in patch.adds.items()}
    return Patch(adds, patch.prefix)


def prune(model: LanguageModel, patch: Patch, base: float = math.e) -> Patch:
    """PRUNE: a singular value σ of a change above σ_max(W) becomes log σ − log σ_max + σ_max.

    The logarithm's base is the paper's α; the authors' code has 1.2 as a choice, the comparison in
    AlphaEdit's code is e. Where σ_max < 1 / ln(base) the formula would *enlarge* values just above
    σ_max, and the published codes let it; here a value never grows. A matrix without such a value
    is left as it is, bit for bit.

    Args:
        model: the model that the patch belongs to, as it was before the first of the edits.
        patch: the change to restrain, of all edits together.
        base: of the logarithm, above 1; the larger, the closer to σ_max.
    """
    adds = {name: _held_down(model, name, change, base) for name, change in patch.adds.items()}
    return Patch(adds, patch.prefix)


def _largest(model: LanguageModel, name: str, change: Change, keep: float) -> Change:
    delta = change.delta()
    weight = model.weight(name).to(delta.device)
    relative = delta.float().abs() / (weight.float().abs() + _EPSILON)
    count = max(1, round(keep * delta.numel()))
    kept = relative.flatten().topk(count).indices
    restrained = torch.zeros_like(delta).flatten()
    restrained[kept] = delta.flatten()[kept]
    return Dense(restrained.view_as(delta))


def _held_down(model: LanguageModel, name: str, change: Change, base: float) -> Change:
    weight = model.weight(name)
    # The Frobenius norm bounds σ from above and the longest row bounds σ_max from below: the usual
    # small edit needs no decomposition at all.
    if change.norm() <= float(weight.double().norm(dim=1).max()):
        return change
    u, s, v = spectrum(change)
    limit = largest_singular_value(weight)
    if limit == 0 or s[0] <= limit:
        return change
    lowered = s.log().sub(math.log(limit)).div(math.log(base)).add(limit)
    held = torch.where(s > limit, torch.minimum(s, lowered), s)
    given = next(iter(change.tensors.values()))
    if isinstance(change, LowRank):
        return LowRank(v.to(given), (u * held).T.to(given))
    return Dense(((u * held) @ v).to(given))


@dataclass(frozen=True)
class _Kind:
    """A way to restrain: its function, its parameter's default, and what the parameter may be.

    `each_step`: in a sequence of edits it restrains each step's change, not the sum of them.
    """

    apply: Callable[[LanguageModel, Patch, float], Patch]
    default: float
    fits: Callable[[float], bool]
    rule: str
    each_step: bool


_KINDS: Mapping[str, _Kind] = {
    "rect": _Kind(
        rect, 0.4, lambda x: 0 < x <= 1, "the share to keep, above 0 and at most 1", each_step=True
    ),
    "prune": _Kind(
        prune, math.e, lambda x: 1 < x < math.inf, "the logarithm's base, above 1", each_step=False
    ),
}


@dataclass(frozen=True)
class Restraint:
    """One way to restrain patches with its parameter: RECT's share, or PRUNE's base."""

    kind: str
    parameter: float

    @classmethod
    def parse(cls, value: Any) -> "Restraint":
        """`rect`, `prune`, `{rect: 0.4}` or `{prune: 1.2}`.

        Raises:
            ConfigError: anything else.
        """
        named = {value: None} if isinstance(value, str) else value
        if not isinstance(named, Mapping) or len(named) != 1:
            raise ConfigError(
                f"write `rect`, `prune`, `rect: 0.4` or `prune: 1.2` (here: {value!r})"
            )
        ((kind, parameter),) = named.items()
        if kind not in _KINDS:
            raise unknown("restraint", str(kind), _KINDS)
        known = _KINDS[kind]
        chosen: Any = known.default if isinstance(value, str) else parameter
        is_number = isinstance(chosen, int | float) and not isinstance(chosen, bool)
        if not is_number or not known.fits(chosen):
            raise ConfigError(f"{kind}: write {known.rule} (here: {chosen!r})")
        return cls(kind, float(chosen))

    def apply(self, model: LanguageModel, patch: Patch) -> Patch:
        """The patch, restrained; `model` has the weights that it is added to.

        Raises:
            EditError: the patch is not finite.
        """
        if not patch.finite:
            raise EditError(
                "not_finite", f"{self.kind} cannot restrain a change that is not finite"
            )
        return _KINDS[self.kind].apply(model, patch, self.parameter)

    @property
    def each_step(self) -> bool:
        """Whether each step of a sequence is restrained before it is added, or the sum of all."""
        return _KINDS[self.kind].each_step

    @property
    def plain(self) -> dict[str, float]:
        """As JSON has it; `parse` reads it back."""
        return {self.kind: self.parameter}

    def __str__(self) -> str:
        """`rect` or `prune`, with the parameter where it is not the default: `rect=0.2`."""
        usual = self.parameter == _KINDS[self.kind].default
        return self.kind if usual else f"{self.kind}={self.parameter:g}"
