"""Whether an edit moved a sentiment, and not the topic."""

from math import exp

from editsweep.core.types import Answer, Role


def sentiment(before: Answer, after: Answer) -> float | None:
    """Edit success of SERAC's sentiment task, in [0, 1], as its published code computes it.

    With l the mean log-likelihood a token, over all tokens of the sentences together, of the
    wanted (+) and the other (-) sentiment:

        sigmoid(l+ after - l- after) * min(1, exp(l+ after - l+ before))

    The first factor asks for the sentiment, the second that sentences on the topic have not become
    less likely (arXiv 2206.06520 and `es_sentiment` of its code; ConvSent in KnowEdit,
    arXiv 2401.01286). None unless both sentiments are scored.
    """
    good, bad, was = _mean(after, "answer"), _mean(after, "unwanted"), _mean(before, "answer")
    if good is None or bad is None or was is None:
        return None
    # Written so that neither exponent can overflow.
    low = exp(-abs(good - bad))
    wanted = (1 if good >= bad else low) / (1 + low)
    return wanted * exp(min(0.0, good - was))


def _mean(answer: Answer, role: Role) -> float | None:
    """Mean log-likelihood a token of all continuations of one role."""
    found = [p for scored in answer.scored if scored.role == role for p in scored.logprobs]
    return sum(found) / len(found) if found else None
