"""Causal tracing: which hidden states carry a fact from its subject to the answer.

arXiv 2202.05262, section 2: noise on the subject's embeddings makes the model forget; restoring one
clean hidden state (or what the MLPs or the attention of a window of blocks say at one token) brings
the answer back if the fact passes there. As in the published code the noise is 3σ of the subjects'
embeddings and the same for every site, and a window of 10 blocks is cut off at the model's ends.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from editsweep.core.names import unknown
from editsweep.errors import ConfigError
from editsweep.model.facts import Fact
from editsweep.model.language_model import LanguageModel
from editsweep.model.restoring import KINDS, Kind, Runs, Site

Report = Callable[[int], None]


@dataclass(frozen=True)
class TraceSettings:
    """What is restored and how the subject is corrupted; the defaults are the published ones.

    `window` blocks are restored together for `mlp` and `attention`, one for `state`. `samples` rows
    of noise of `noise` · σ are drawn anew for each fact with `seed`.
    """

    kinds: tuple[Kind, ...] = KINDS
    window: int = 10
    samples: int = 10
    noise: float = 3.0
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be traced."""
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown("kind of site", kind, KINDS)
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise ConfigError(f"kinds: name some of {', '.join(KINDS)}, each once")
        if self.window < 1 or self.samples < 1 or not self.noise > 0:
            raise ConfigError("window, samples and noise must be positive")

    def layers(self, kind: Kind, layer: int, depth: int) -> range:
        """The blocks that are restored together around `layer` of a model of `depth` blocks."""
        if kind == "state":
            return range(layer, layer + 1)
        stop = min(depth, layer - (-self.window // 2))
        return range(max(0, layer - self.window // 2), stop)


@dataclass(frozen=True)
class Trace:
    """One fact traced: probabilities of the token `answer`, clean, corrupted and restored.

    `restored[kind]` [tokens, layers]; row i is token `tokens[i]` of the prompt.
    """

    fact: Fact
    answer: int
    clean: float
    low: float
    tokens: range
    restored: Mapping[Kind, Tensor]


def every_token(fact: Fact) -> range:
    """All tokens of the prompt."""
    return range(len(fact.ids))


def last_subject_token(fact: Fact) -> range:
    """The one token at which the early site lies."""
    return fact.span[-1:]


def trace(
    model: LanguageModel,
    facts: Sequence[Fact],
    settings: TraceSettings,
    sigma: float,
    tokens: Callable[[Fact], range] = every_token,
    report: Report = lambda _: None,
) -> Iterator[Trace]:
    """The traces of `facts`, in order, as they are finished.

    Sites of several facts share passes; what a fact gives depends on the others by rounding only.

    Args:
        model: traced in the precision in which it was loaded.
        facts: prompts with their subjects' places.
        settings: what is restored, and the noise.
        sigma: the standard deviation of the subjects' embeddings, see `subject_deviation`.
        tokens: which tokens of a fact are restored, one after another.
        report: is told the number of sites whenever some are done.
    """
    for group in _groups(model, facts, settings.samples, tokens):
        yield from _traced(model, group, settings, sigma, tokens, report)


def sites(model: LanguageModel, fact: Fact, settings: TraceSettings) -> int:
    """How many sites of a fact are restored one after another; those before the subject need none."""
    return (len(fact.ids) - fact.span.start) * model.depth * len(settings.kinds)


def _traced(
    model: LanguageModel,
    facts: Sequence[Fact],
    settings: TraceSettings,
    sigma: float,
    tokens: Callable[[Fact], range],
    report: Report,
) -> Iterator[Trace]:
    noise = [subject_noise(model, fact, settings, sigma) for fact in facts]
    runs = Runs.of(model, facts, noise)
    low = runs.low.tolist()
    tables: list[dict[Kind, Tensor]] = [
        {kind: torch.full((len(tokens(fact)), model.depth), low[i]) for kind in settings.kinds}
        for i, fact in enumerate(facts)
    ]
    # Before the subject both runs are the same, and restoring changes nothing.
    places = [
        (i, row, token)
        for i, fact in enumerate(facts)
        for row, token in enumerate(tokens(fact))
        if token >= fact.span.start
    ]
    restored = [Site(i, token) for i, _, token in places]
    for kind in settings.kinds:
        for layer in range(model.depth):
            together = settings.layers(kind, layer, model.depth)
            scores = runs.restored(kind, together, restored).tolist()
            for (i, row, _), score in zip(places, scores, strict=True):
                tables[i][kind][row, layer] = score
            report(len(places))
    answers, high = runs.answer.tolist(), runs.high.tolist()
    for i, fact in enumerate(facts):
        yield Trace(fact, answers[i], high[i], low[i], tokens(fact), tables[i])


def subject_noise(
    model: LanguageModel, fact: Fact, settings: TraceSettings, sigma: float
) -> Tensor:
    """[samples, subject tokens, d]: the published generator, begun anew for each fact."""
    width = model.module.get_input_embeddings().weight.shape[1]
    drawn = np.random.RandomState(settings.seed).randn(settings.samples, len(fact.span), width)
    return torch.from_numpy(drawn * (settings.noise * sigma)).to(model.device, torch.float32)


def _groups(
    model: LanguageModel, facts: Sequence[Fact], samples: int, tokens: Callable[[Fact], range]
) -> Iterator[list[Fact]]:
    """Neighbours whose sites of one layer fill about one pass; as few as that, to be done soon."""
    group: list[Fact] = []
    used = 0
    for fact in facts:
        widths = sum(len(fact.ids) - token for token in tokens(fact) if token >= fact.span.start)
        need = samples * max(widths, len(fact.ids))
        if group and used + need > model.token_budget:
            yield group
            group, used = [], 0
        group.append(fact)
        used += need
    if group:
        yield group
