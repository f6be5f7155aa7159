"""Which numbers are taken on which axis, each tagged with the protocol it was made by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite

from editsweep.core.types import CONDITION, Answer, Measurement, Phase, Probe
from editsweep.metrics import protocols
from editsweep.metrics.sentiment import sentiment

VERSION = "2"
# Status of a number whose condition the unedited model does not meet.
UNMET = "condition unmet"

Take = Callable[[Probe, Answer, Answer], float | None]


@dataclass(frozen=True)
class Metric:
    """`take(probe, unedited answer, answer)`; `meaning` is one line for a reader of the report."""

    name: str
    protocol: str
    take: Take
    meaning: str


def _alone(number: Callable[[Answer], float | None]) -> Take:
    return lambda _probe, _before, answer: number(answer)


def _asked(number: Callable[[Probe, Answer], float | None]) -> Take:
    return lambda probe, _, answer: number(probe, answer)


def _compared(number: Callable[[Answer, Answer], float | None]) -> Take:
    return lambda _, before, answer: number(before, answer)


_PREFERENCE = Metric(
    "preference",
    "preference",
    _alone(protocols.preference),
    "the wanted answer is likelier than the unwanted one",
)
_MAGNITUDE = Metric(
    "preference_magnitude",
    "preference",
    _alone(protocols.preference_magnitude),
    "by how much likelier",
)
_TOKENS = Metric(
    "token_match",
    "token_match",
    _alone(protocols.token_match),
    "share of the answer's tokens that the model prefers, given the ones before",
)
_EXACT = Metric(
    "exact_match",
    "exact_match",
    _alone(protocols.exact_match),
    "greedy decoding says an accepted answer, whole",
)
_CORRECT = Metric(
    "correct",
    "correct",
    _alone(protocols.exact_match),
    "greedy decoding says the true answer, whole",
)
_AGREEMENT = Metric(
    "agreement",
    "agreement",
    _compared(protocols.agreement),
    "share of positions at which the preferred token is the unedited model's",
)

_KL = Metric(
    "kl",
    "kl",
    _alone(protocols.kl),
    "how far the next token's distribution is from the unedited model's, in nats",
)
_CONTAINS = Metric(
    "contains",
    "generation",
    _asked(protocols.contains),
    "the model's own text, to its natural end, contains an accepted answer",
)
_EQUALS = Metric(
    "equals",
    "generation",
    _asked(protocols.equals),
    "the model's own text, to its natural end, is an accepted answer",
)
_PERPLEXITY = Metric(
    "perplexity",
    "perplexity",
    _alone(protocols.perplexity),
    "of the text that is wanted, given what stands before it",
)
_REFUSAL = Metric(
    "refusal",
    "generation",
    _asked(protocols.refusal),
    "the model's own text refuses, and does not say what it must not",
)
_SENTIMENT = Metric(
    "sentiment",
    "sentiment",
    _compared(sentiment),
    "sentences of the wanted sentiment are likelier, and no less likely than before",
)
_ENTROPY = Metric(
    "ngram_entropy",
    "generation",
    _asked(protocols.entropy),
    "of 2-grams and 3-grams of a text that the model writes, in bits; low if it repeats itself",
)
_REPETITION = Metric(
    "repetition",
    "generation",
    _alone(protocols.repetition),
    "share of 4-grams of a text that the model writes that it has written before",
)
_CONSISTENCY = Metric(
    "consistency",
    "generation",
    _asked(protocols.consistency),
    "cosine of the TF-IDF vectors of a text that the model writes and of true texts",
)

_LEARNT = (_EXACT, _TOKENS, _PREFERENCE, _MAGNITUDE, _CONTAINS, _EQUALS)
SUITE: Mapping[str, tuple[Metric, ...]] = {
    "reliability": (*_LEARNT, _PERPLEXITY),
    "paraphrase": _LEARNT,
    "reverse": _LEARNT,
    "portability": _LEARNT,
    "locality": (_AGREEMENT, _CORRECT, _KL, _PREFERENCE, _MAGNITUDE),
    "fluency": (_ENTROPY, _REPETITION, _PERPLEXITY),
    "consistency": (_CONSISTENCY,),
    "condition": (_EXACT, _TOKENS),
}
FACETS: Mapping[tuple[str, str], tuple[Metric, ...]] = {
    ("reliability", "refusal"): (_REFUSAL,),
    ("reliability", "sentiment"): (_SENTIMENT,),
}
"""What a question of a kind of its own is measured by, in place of its axis' metrics."""


def metrics_of(probe: Probe) -> tuple[Metric, ...]:
    """The metrics that a probe may allow."""
    return FACETS.get((probe.axis, probe.facet), SUITE[probe.axis])


def measure(probe: Probe, before: Answer, after: Answer, phase: Phase) -> list[Measurement]:
    """Every number that `probe` allows; for phase `pre` pass the unedited answer twice."""
    return [
        _measurement(probe, metric, phase, value)
        for metric in metrics_of(probe)
        if (value := metric.take(probe, before, after)) is not None
    ]


def knows(answer: Answer) -> bool:
    """Whether a condition is met: greedy decoding says an accepted answer, whole."""
    return protocols.exact_match(answer) == 1


def not_measured(
    probe: Probe, before: Answer, reason: str, phase: Phase = "post"
) -> list[Measurement]:
    """The numbers that would have been taken, of a failed edit say: null, with a reason."""
    return [
        _measurement(probe, metric, phase, None, reason)
        for metric in metrics_of(probe)
        if metric.take(probe, before, before) is not None
    ]


def both_phases(
    probe: Probe, before: Answer, after: Answer | None, met: bool, failure: str | None
) -> list[Measurement]:
    """Every number of a probe before and after the edit.

    Args:
        probe: the question.
        before: the unedited model's answer.
        after: the edited model's; None where the edit failed.
        met: whether the unedited model knows all that the probe needs.
        failure: why the edit failed, or None.
    """
    if not met:
        phases: tuple[Phase, ...] = ("pre", "post")
        return [m for phase in phases for m in not_measured(probe, before, UNMET, phase)]
    pre = measure(probe, before, before, "pre")
    if probe.axis == CONDITION:
        return pre
    if failure is not None or after is None:
        return pre + not_measured(probe, before, failure or "failed")
    return pre + measure(probe, before, after, "post")


def _measurement(
    probe: Probe, metric: Metric, phase: Phase, value: float | None, status: str = "ok"
) -> Measurement:
    if value is not None and not isfinite(value):
        value, status = None, "not_finite"
    return Measurement(
        probe.probe_id,
        probe.axis,
        probe.facet,
        metric.name,
        metric.protocol,
        phase,
        value,
        status,
    )
