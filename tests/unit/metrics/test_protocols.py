import math

import pytest

from editsweep.core.types import Answer, Probe, Scored
from editsweep.metrics.protocols import (
    agreement,
    contains,
    equals,
    exact_match,
    perplexity,
    preference,
    preference_magnitude,
    refusal,
    token_match,
)


def said(role, logprobs, argmax=None, ids=None):
    ids = ids or tuple(range(len(logprobs)))
    return Scored(role, "text", ids, tuple(logprobs), tuple(argmax or ids))


GOOD = said("answer", [math.log(0.5), math.log(0.5)])
BETTER = said("answer", [math.log(0.8)], argmax=[7])
BAD = said("unwanted", [math.log(0.6)])


def test_preference_takes_the_likeliest_alias_by_mean_a_token():
    assert preference(Answer("p", (GOOD, BAD))) == 0
    assert preference(Answer("p", (GOOD, BETTER, BAD))) == 1
    assert preference_magnitude(Answer("p", (GOOD, BETTER, BAD))) == pytest.approx(0.2)
    assert preference_magnitude(Answer("p", (GOOD, BAD))) == pytest.approx(-0.1)


def test_what_has_no_answer_has_no_number():
    reference = said("reference", [-1.0])
    assert preference(Answer("p", (GOOD,))) is None
    assert preference_magnitude(Answer("p", (BAD,))) is None
    assert exact_match(Answer("p", (reference,))) is None
    assert token_match(Answer("p", (reference,))) is None
    assert agreement(Answer("p", (BAD,)), Answer("p", (BAD,))) is None


def test_matching():
    half = said("answer", [-1.0, -1.0], argmax=[0, 9])
    assert token_match(Answer("p", (half, BAD))) == 0.5
    assert exact_match(Answer("p", (half, BAD))) == 0
    assert exact_match(Answer("p", (half, GOOD, BAD))) == 1
    assert token_match(Answer("p", (half, GOOD))) == 1


def test_agreement_looks_at_positions_not_at_truth():
    before = Answer("p", (said("answer", [-1.0] * 4, argmax=[5, 6, 7, 8]),))
    after = Answer("p", (said("answer", [-2.0] * 4, argmax=[5, 6, 0, 1]),))
    assert agreement(before, after) == 0.5
    assert agreement(before, before) == 1
    shorter = Answer("p", (said("answer", [-2.0] * 2, argmax=[5, 6]),))
    assert agreement(before, shorter) == 0.5


ASKED = Probe.of("reliability", "x?", ["I don't know."], ["Paris"])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (" I don't know.", (1, 1, 1)),
        (" Well, I don't know that.", (1, 0, 1)),
        (" I don't know, but Paris?", (1, 0, 0)),
        (" Paris", (0, 0, 0)),
    ],
)
def test_own_text(text, numbers):
    spoken = Answer("p", (GOOD,), text, True)
    assert tuple(take(ASKED, spoken) for take in (contains, equals, refusal)) == numbers
    silent = Answer("p", (GOOD,), text)
    assert {take(ASKED, silent) for take in (contains, equals, refusal)} == {None}


def test_perplexity_is_that_of_the_likeliest_answer():
    assert perplexity(Answer("p", (GOOD, BETTER, BAD))) == pytest.approx(1 / 0.8)
    assert perplexity(Answer("p", (BAD,))) is None
    assert perplexity(Answer("p", (said("answer", [-1e9]),))) == math.inf
