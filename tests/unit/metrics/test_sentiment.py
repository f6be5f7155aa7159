from math import exp

import pytest

from editsweep.core.types import Answer, Probe, Scored
from editsweep.metrics.sentiment import sentiment
from editsweep.metrics.suite import measure


def answer(good, bad):
    lines = [("answer", p) for p in good] + [("unwanted", p) for p in bad]
    return Answer(
        "p", tuple(Scored(r, "x", (1,) * len(p), tuple(p), (1,) * len(p)) for r, p in lines)
    )


BEFORE = answer([[-2.0, -4.0], [-3.0]], [[-1.0]])


@pytest.mark.parametrize(
    ("good", "bad", "value"),
    [
        # Tokens are pooled over sentences: (-1 - 3 - 2) / 3 = -2 against -2; the topic is likelier.
        ([[-1.0, -3.0], [-2.0]], [[-2.0]], 0.5),
        # sigmoid(-2 + 4) = 0.8807971; the topic is likelier than before (-3).
        ([[-2.0]], [[-4.0]], 0.8807970779778823),
        # sigmoid(-5 + 6) = 0.7310586, and exp(-5 + 3) = 0.1353353 of the topic is left.
        ([[-5.0]], [[-6.0, -6.0]], 0.7310585786300049 * 0.1353352832366127),
        ([[-3.0]], [[-1.0]], 1 / (1 + exp(2))),
        ([[-2000.0]], [[-1.0]], 0.0),
        ([[-1.0]], [[-2000.0]], 1.0),
    ],
)
def test_against_numbers_by_hand(good, bad, value):
    assert sentiment(BEFORE, answer(good, bad)) == pytest.approx(value, abs=1e-15)


def test_both_sentiments_are_needed():
    assert sentiment(BEFORE, answer([[-1.0]], [])) is None
    assert sentiment(answer([], [[-1.0]]), BEFORE) is None
    assert sentiment(BEFORE, answer([], [[-1.0]])) is None


def test_it_is_what_the_facet_is_measured_by():
    probe = Probe.of("reliability", "Tea?", ["Good."], ["Bad."], "sentiment")
    (row,) = measure(probe, BEFORE, BEFORE, "pre")
    assert (row.metric, row.value) == ("sentiment", pytest.approx(1 / (1 + exp(2))))
