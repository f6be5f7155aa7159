"""FT-L: fine-tuning one MLP output projection, its weights kept near the original.

After every step each weight is clamped to within ±ε of its original value (arXiv 2012.00363, the
L∞ constraint of section 3.2; as run in arXiv 2202.05262, section 3.1). The objective is the published
code's: the mean log-probability of all target tokens at the prompt's last position, which is right
for targets of one token only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from editsweep.core.types import EditRequest
from editsweep.editors.base import Asset, Edited, Editor, Requirement
from editsweep.editors.tuned import Descent, Job, Plain, TailPart, edit_jobs, targets, train
from editsweep.errors import ConfigError
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Dense

# Published ε by family and depth: GPT-2 medium, large and XL, and GPT-J.
EPSILON: Mapping[tuple[str, int], float] = {
    ("gpt2", 24): 2e-3,
    ("gpt2", 36): 1e-3,
    ("gpt2", 48): 5e-4,
    ("gpt-j", 28): 5e-5,
}
ELSEWHERE = 5e-4


@dataclass(frozen=True)
class FtlSpec:
    """Hyperparameters; published is block 0 everywhere.

    `clamp` is ε; None is the published one for the model's family and depth, 5e-4 for all others.
    """

    name: ClassVar[str] = "ft-l"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    layer: int = 0
    rate: float = 5e-4
    steps: int = 25
    stop: float = 1e-2
    clamp: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.steps < 1 or self.rate <= 0 or (self.clamp is not None and self.clamp <= 0):
            raise ConfigError("ft-l: steps, rate and clamp must be positive")

    def requirements(self) -> Mapping[str, Requirement]:
        """Nothing."""
        return {}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layer.
        """
        published = EPSILON.get((model.family.name, model.depth), ELSEWHERE)
        clamp = published if self.clamp is None else self.clamp
        return Ftl(self, model, model.checked_layer(self.layer, 0), clamp)


@dataclass(frozen=True)
class Ftl:
    """Every group has a change of its own [d_out, d_in] with entries within ±`clamp`."""

    spec: FtlSpec
    model: LanguageModel
    layer: int
    clamp: float

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One `Dense` patch a group; `seed` is not used, nothing is drawn."""
        weight = self.model.weight(self.model.mlp_out(self.layer))
        return edit_jobs(self.model, groups, weight.numel(), self._train)

    def _train(self, jobs: Sequence[Job]) -> list[Edited]:
        spec, name = self.spec, self.model.mlp_out(self.layer)
        weight = self.model.weight(name)
        start = {name: torch.zeros(len(jobs), *weight.shape, device=weight.device)}
        parts = [TailPart.of(one, self.layer) for one in targets(self.model, jobs, "prompt_last")]
        descent = Descent(spec.rate, spec.steps, spec.stop)
        trained = train(start, parts, descent, Plain(self.clamp))
        return [one.edited({name: Dense(one.parameters[name])}) for one in trained]
