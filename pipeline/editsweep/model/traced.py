"""`layer: auto`: the block at which causal tracing finds the facts.

arXiv 2202.05262 edits where restoring the MLPs at the subject's last token has the highest mean
indirect effect over facts that the model knows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from editsweep.core.types import Corpus, EditRequest
from editsweep.errors import ConfigError
from editsweep.model.asset import Asset
from editsweep.model.facts import Fact, known_facts, subject_deviation
from editsweep.model.language_model import LanguageModel
from editsweep.model.restoring import Kind
from editsweep.model.tracing import TraceSettings, last_subject_token, trace

FEWEST = 3


@dataclass(frozen=True)
class TracedLayer:
    """The layer with the highest mean indirect effect at the last subject token.

    It is the mean over at most `facts` facts of `source` that the model knows, each with `samples`
    draws of the noise (10 are published for the picture of a single fact, which is no mean).
    """

    source: str = "world:train"
    facts: int = 20
    kind: Kind = "mlp"
    samples: int = 4

    def make(self, model: LanguageModel, corpus: Corpus, work: Path | None = None) -> Asset:
        """No tensors; meta: `layer`, the mean `effects` of all layers, and how many `facts`.

        Raises:
            ConfigError: the model knows too few facts of the source.
        """
        settings = TraceSettings(kinds=(self.kind,), samples=self.samples)
        try:
            effects, count = subject_effects(model, corpus.requests, self.facts, settings)
        except ConfigError as error:
            raise ConfigError(f"layer: auto, from {self.source!r}: {error}") from error
        layer = max(range(len(effects)), key=effects.__getitem__)
        return Asset(meta={"layer": layer, "effects": effects, "facts": count})


def traced_layer(model: LanguageModel, corpus: Corpus, facts: int = 20, kind: Kind = "mlp") -> int:
    """The layer that `TracedLayer` finds in `corpus`.

    Raises:
        ConfigError: the model knows too few of its facts.
    """
    return int(TracedLayer("", facts, kind).make(model, corpus).meta["layer"])


def subject_effects(
    model: LanguageModel, requests: Iterable[EditRequest], limit: int, settings: TraceSettings
) -> tuple[list[float], int]:
    """The mean indirect effect of each layer at the last subject token, and the number of facts.

    Raises:
        ConfigError: the model knows fewer than three of the facts.
    """
    # A subject often has several facts in a row; one of each tells more about the model.
    once = {request.subject: request for request in requests if request.subject}
    known = (f for f in known_facts(model, once.values()) if isinstance(f, Fact))
    facts = list(islice(known, limit))
    if len(facts) < FEWEST:
        raise ConfigError(
            f"{model.name} knows {len(facts)} of {len(once)} facts, and fewer than {FEWEST} say "
            "nothing about where it keeps them: name the layer, or data with facts that it knows"
        )
    sigma = subject_deviation(model, [fact.subject for fact in facts])
    (kind,) = settings.kinds
    traces = trace(model, facts, settings, sigma, last_subject_token)
    effects = torch.stack([made.restored[kind][0] - made.low for made in traces]).mean(0)
    return effects.tolist(), len(facts)
