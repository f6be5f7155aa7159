"""Hyperparameters and assets that all editors share which locate a fact and solve for a change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from editsweep.core.types import Corpus
from editsweep.editors.base import Asset, Requirement
from editsweep.errors import ConfigError
from editsweep.locate.value import Search
from editsweep.model.contexts import Contexts
from editsweep.model.language_model import LanguageModel
from editsweep.model.layers import Layers
from editsweep.model.moments import ChosenLayers, SecondMoments
from editsweep.model.solve import Metric, with_ridge


@dataclass(frozen=True)
class LocatedSpec:
    """Hyperparameters of the search for a value (`locate.value.Search`) and of the second moment C.

    `contexts` texts of the model's own stand before the prompt, drawn with `context_seed`. `moment`
    names the text that C is taken from (a dataset's split, or a file of ours or of plain text,
    `.txt`), or is `identity`; `layer: auto` traces the facts of the same source. `ridge` times the
    mean of C's diagonal is added to it. `clamp` bounds ‖δ‖/‖v₀‖.
    """

    name: ClassVar[str]
    # Whether C and its multiples give the same edit, so that the identity can stand in for it.
    scale_free: ClassVar[bool] = False

    contexts: int = 10
    context_seed: int = 0
    rate: float = 0.5
    steps: int = 25
    stop: float = 5e-2
    divergence: float = 0.0625
    penalty: float = 1e-3
    clamp: float = 4.0
    moment: str = "world:train"
    vectors: int = 0
    ridge: float = 1e-2

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if self.steps < 1 or self.rate <= 0 or self.clamp <= 0 or self.contexts < 0:
            raise ConfigError(
                f"{self.name}: steps, rate and clamp must be positive, contexts not negative"
            )
        if self.ridge < 0:
            raise ConfigError(f"{self.name}: ridge must not be negative")

    @property
    def place(self) -> Layers:
        """Which blocks are edited."""
        raise NotImplementedError

    @property
    def search(self) -> Search:
        """How a value is searched."""
        return Search(self.rate, self.steps, self.stop, self.divergence, self.penalty, self.clamp)

    def requirements(self) -> Mapping[str, Requirement]:
        """The contexts, and C unless it is the identity, or else the layers."""
        needs: dict[str, Requirement] = {"contexts": Contexts(self.contexts, self.context_seed)}
        if self.moment != "identity":
            needs["moment"] = SecondMoments(self.moment, self.place, self.vectors)
        elif self.place.chosen == "auto":
            needs["layers"] = ChosenLayers("world:train", self.place)
        return needs

    def located(self, model: LanguageModel, assets: Mapping[str, Asset]) -> "Located":
        """What the assets say, on the model's device.

        Raises:
            ConfigError: the model has no such layer.
        """
        told = assets.get("moment") or assets.get("layers")
        layers = tuple(told.meta["layers"]) if told else self.place.of(model, Corpus())
        moments = {}
        if self.moment != "identity":
            made = assets["moment"].tensors
            moments = {
                n: with_ridge(made[f"moment.{n}"].to(model.device), self.ridge) for n in layers
            }
        return Located(model, layers, ("{}", *assets["contexts"].meta["templates"]), moments)


@dataclass(frozen=True)
class Located:
    """`templates[0]` is the bare "{}"; `moments` has C with its ridge by layer, or is empty."""

    model: LanguageModel
    layers: tuple[int, ...]
    templates: tuple[str, ...]
    moments: Mapping[int, Tensor]

    def metrics(self) -> dict[int, Metric]:
        """The cost of a change by layer: C, or the identity."""
        return {n: Metric.of(self.moments[n]) if self.moments else Metric() for n in self.layers}
