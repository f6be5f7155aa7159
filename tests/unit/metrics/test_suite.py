from typing import get_args

import pytest

from editsweep.core.types import Answer, Axis, Probe, Scored
from editsweep.metrics.suite import SUITE, measure, not_measured

TOKENS = (1, 2), (-0.1, -0.2)
RIGHT = Scored("answer", "a", *TOKENS, (1, 2))
WRONG = Scored("unwanted", "b", *TOKENS, (3, 2))
WHOLE = Answer("p", (RIGHT, WRONG), "a b c d e f", True, 0.5)


@pytest.mark.parametrize("axis", get_args(Axis))
def test_every_axis_has_numbers_and_every_number_its_protocol(axis):
    probe = Probe.of(axis, "x is", ["a"], ["b"])
    rows = measure(probe, WHOLE, WHOLE, "post")
    assert {m.metric for m in rows} == {m.name for m in SUITE[axis]}
    assert all(m.status == "ok" and m.value is not None and m.protocol for m in rows)


def test_a_question_of_a_kind_of_its_own_is_not_measured_as_its_axis_is():
    probe = Probe.of("reliability", "x is", ["a"], ["b"], "refusal")
    (row,) = measure(probe, WHOLE, WHOLE, "post")
    assert (row.axis, row.facet, row.metric, row.value) == ("reliability", "refusal", "refusal", 0)


def test_a_number_that_is_none_is_a_row_with_a_reason():
    lost = Answer("p", (Scored("answer", "a", (1,), (-1e9,), (1,)),))
    rows = measure(Probe.of("reliability", "x is", ["a"]), lost, lost, "post")
    (row,) = [m for m in rows if m.metric == "perplexity"]
    assert (row.value, row.status) == (None, "not_finite")


def test_a_failed_edit_keeps_its_rows_without_a_value():
    for axis in get_args(Axis):
        probe = Probe.of(axis, "x is", ["a"], ["b"])
        failed = not_measured(probe, WHOLE, "not_finite")
        whole = measure(probe, WHOLE, WHOLE, "post")
        assert [m.metric for m in failed] == [m.metric for m in whole]
        assert all(m.value is None and m.status == "not_finite" for m in failed)


def test_only_what_can_be_taken_is_taken():
    probe = Probe.of("locality", "x is")
    answer = Answer(probe.probe_id, (Scored("reference", " a", *TOKENS, (1, 2)),))
    assert [m.metric for m in measure(probe, answer, answer, "post")] == ["agreement"]
