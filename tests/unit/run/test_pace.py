from editsweep.run.pace import LATE, LATE_S, Pace


def test_late_is_what_takes_much_longer_than_its_kind():
    pace = Pace()
    for place, seconds in enumerate((10.0, 12.0, 90.0)):
        pace.start(f"done {place}", "a", 0.0)
        pace.done(f"done {place}", seconds)
    pace.start("second", "a", 5.0)
    pace.start("first", "a", 0.0)
    assert list(pace.late(12.0 * LATE)) == []
    assert list(pace.late(12.0 * LATE + 1)) == ["first"]
    assert list(pace.late(99.0)) == ["first", "second"]
    pace.stop("first")
    assert list(pace.late(99.0)) == ["second"]


def test_nothing_is_late_before_the_first_is_done_and_other_kinds_stand_in():
    pace = Pace()
    pace.start("x", "a", 0.0)
    assert list(pace.late(1e6)) == []
    pace.start("y", "b", 0.0)
    pace.done("y", 20.0)
    assert list(pace.late(20.0 * LATE + 1)) == ["x"]


def test_short_tasks_are_given_time_and_a_second_start_does_not_count():
    pace = Pace()
    pace.start("x", "a", 0.0)
    pace.done("x", 0.01)
    pace.start("y", "a", 1.0)
    pace.start("y", "a", 3.0)
    assert list(pace.late(1.0 + LATE_S)) == []
    assert list(pace.late(1.5 + LATE_S)) == ["y"]
