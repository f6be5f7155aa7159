from editsweep.core.types import AXES, Answer, Probe, Scored
from editsweep.metrics.suite import SUITE, measure, not_measured

TOKENS = (1, 2), (-0.1, -0.2)
RIGHT = Scored("answer", "a", *TOKENS, (1, 2))
WRONG = Scored("unwanted", "b", *TOKENS, (3, 2))


def test_every_axis_has_numbers_and_every_number_its_protocol():
    assert set(SUITE) == set(AXES)
    for axis in AXES:
        probe = Probe.of(axis, "x is", ["a"], ["b"])
        answer = Answer(probe.probe_id, (RIGHT, WRONG))
        rows = measure(probe, answer, answer, "post")
        assert {m.metric for m in rows} == {m.name for m in SUITE[axis]}
        assert all(m.status == "ok" and m.value is not None and m.protocol for m in rows)


def test_a_failed_edit_keeps_its_rows_without_a_value():
    probe = Probe.of("reliability", "x is", ["a"], ["b"])
    answer = Answer(probe.probe_id, (RIGHT, WRONG))
    failed = not_measured(probe, answer, "not_finite")
    whole = measure(probe, answer, answer, "post")
    assert [m.metric for m in failed] == [m.metric for m in whole]
    assert all(m.value is None and m.status == "not_finite" for m in failed)


def test_only_what_can_be_taken_is_taken():
    probe = Probe.of("locality", "x is")
    answer = Answer(probe.probe_id, (Scored("reference", " a", *TOKENS, (1, 2)),))
    assert [m.metric for m in measure(probe, answer, answer, "post")] == ["agreement"]
