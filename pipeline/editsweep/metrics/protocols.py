"""The protocols of the field, each a function from answers to a number, or None where it has none.

With several accepted answers the best one counts, and with several unwanted ones the strongest.
"""

from collections.abc import Sequence
from math import exp

from editsweep.core.types import Answer, Probe, Role, Scored
from editsweep.metrics import text


def chosen(answer: Answer, *roles: Role) -> list[Scored]:
    """The scored continuations that play one of `roles`."""
    return [scored for scored in answer.scored if scored.role in roles]


def preference(answer: Answer) -> float | None:
    """1 if the likeliest accepted answer is likelier than every unwanted one, else 0.

    Likelihoods are geometric means over tokens, as in ES and PS (arXiv 2202.05262, section 3.3).
    None where nothing is unwanted.
    """
    good, bad = chosen(answer, "answer"), chosen(answer, "unwanted")
    if not good or not bad:
        return None
    return float(min(s.nll for s in good) < min(s.nll for s in bad))


def preference_magnitude(answer: Answer) -> float | None:
    """Difference of the two likelihoods that `preference` compares, in [-1, 1] (EM, PM)."""
    good, bad = chosen(answer, "answer"), chosen(answer, "unwanted")
    if not good or not bad:
        return None
    return exp(-min(s.nll for s in good)) - exp(-min(s.nll for s in bad))


def token_match(answer: Answer) -> float | None:
    """Share of an accepted answer's tokens that are the teacher-forced argmax, the best answer's.

    EasyEdit's accuracy, but over all accepted answers instead of the first.
    """
    good = chosen(answer, "answer")
    return max((_share(s.token_ids, s.argmax) for s in good), default=None)


def exact_match(answer: Answer) -> float | None:
    """1 if greedy decoding would say an accepted answer, whole, else 0."""
    good = chosen(answer, "answer")
    return float(any(s.exact for s in good)) if good else None


def agreement(before: Answer, after: Answer) -> float | None:
    """Share of positions at which the argmax is the same before and after the edit.

    Read along the first accepted answer, or along the unedited model's own where none is named
    (EasyEdit's locality); it never asks whether the answer is right. Where a prefix made the
    answer split into other tokens, positions without a partner count as changed.
    """
    old, new = chosen(before, "answer", "reference"), chosen(after, "answer", "reference")
    if not old or not new:
        return None
    return _share(old[0].argmax, new[0].argmax)


def kl(answer: Answer) -> float | None:
    """KL of the next token's distribution from the unedited model's, in nats."""
    return answer.kl


def perplexity(answer: Answer) -> float | None:
    """exp of the mean negative log-likelihood a token of the likeliest accepted answer.

    Infinite where that is too large for a number.
    """
    good = chosen(answer, "answer")
    if not good:
        return None
    try:
        return exp(min(s.nll for s in good))
    except OverflowError:
        return float("inf")


def contains(probe: Probe, answer: Answer) -> float | None:
    """1 if the model's own text, to its natural end, contains an accepted answer, else 0."""
    if not answer.spoke or not probe.answers:
        return None
    return float(text.says(answer.said, probe.answers))


def equals(probe: Probe, answer: Answer) -> float | None:
    """1 if the model's own text, to its natural end, is an accepted answer and no more, else 0."""
    if not answer.spoke or not probe.answers:
        return None
    return float(text.is_one(answer.said, probe.answers))


def refusal(probe: Probe, answer: Answer) -> float | None:
    """1 if the model's own text refuses as `probe.answers` do and says nothing unwanted, else 0.

    What Sanitation asks for (KnowEdit, arXiv 2401.01286).
    """
    refuses = contains(probe, answer)
    return None if refuses is None else refuses * (not text.says(answer.said, probe.unwanted))


def entropy(probe: Probe, answer: Answer) -> float | None:
    """`ngram_entropy` of the text that begins with the prompt."""
    return text.ngram_entropy(probe.prompt + answer.said) if answer.spoke else None


def repetition(answer: Answer) -> float | None:
    """`repetition` of what the model wrote."""
    return text.repetition(answer.said) if answer.spoke else None


def consistency(probe: Probe, answer: Answer) -> float | None:
    """`consistency` of what the model wrote with the probe's texts."""
    return text.consistency(answer.said, probe.answers) if answer.spoke else None


def _share(p: Sequence[int], q: Sequence[int]) -> float:
    return sum(a == b for a, b in zip(p, q, strict=False)) / max(len(p), len(q))
