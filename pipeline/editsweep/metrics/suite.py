"""Which numbers are taken on which axis, each tagged with the protocol it was made by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from editsweep.core.types import Answer, Measurement, Phase, Probe
from editsweep.metrics import protocols

VERSION = "1"

Take = Callable[[Answer, Answer], float | None]


@dataclass(frozen=True)
class Metric:
    """`take(unedited answer, answer)`; `meaning` is one line for a reader of the report."""

    name: str
    protocol: str
    take: Take
    meaning: str


def _alone(number: Callable[[Answer], float | None]) -> Take:
    return lambda _, answer: number(answer)


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
    protocols.agreement,
    "share of positions at which the preferred token is the unedited model's",
)

_LEARNT = (_EXACT, _TOKENS, _PREFERENCE, _MAGNITUDE)
SUITE: Mapping[str, tuple[Metric, ...]] = {
    "reliability": _LEARNT,
    "paraphrase": _LEARNT,
    "reverse": _LEARNT,
    "portability": _LEARNT,
    "locality": (_AGREEMENT, _CORRECT, _PREFERENCE, _MAGNITUDE),
}


def measure(probe: Probe, before: Answer, after: Answer, phase: Phase) -> list[Measurement]:
    """Every number that `probe` allows; for phase `pre` pass the unedited answer twice."""
    return [
        _measurement(probe, metric, phase, value)
        for metric in SUITE[probe.axis]
        if (value := metric.take(before, after)) is not None
    ]


def not_measured(probe: Probe, before: Answer, reason: str) -> list[Measurement]:
    """The rows of a failed edit: the numbers that would have been taken, null, with a reason."""
    return [
        _measurement(probe, metric, "post", None, reason)
        for metric in SUITE[probe.axis]
        if metric.take(before, before) is not None
    ]


def _measurement(
    probe: Probe, metric: Metric, phase: Phase, value: float | None, status: str = "ok"
) -> Measurement:
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
