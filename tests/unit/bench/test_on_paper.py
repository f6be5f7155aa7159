import pytest

from editsweep.bench.on_paper import simulated


def test_a_driver_that_takes_no_time_wastes_none() -> None:
    made = simulated([2.0] * 12, workers=4, service=0.0)
    assert (made.seconds, made.efficiency, made.driver) == (6.0, 1.0, 0.0)
    assert simulated([], workers=4, service=1.0).seconds == 0.0


def test_longest_first_leaves_the_short_ones_for_the_end() -> None:
    assert simulated([1.0, 1.0, 1.0, 1.0, 4.0], workers=2, service=0.0).seconds == 4.0


def test_lengths_that_nobody_knows_leave_a_long_one_for_the_end() -> None:
    made = simulated([1.0, 1.0, 1.0, 1.0, 4.0], workers=2, service=0.0, lengths_known=False)
    assert made.seconds == 6.0


def test_one_worker_waits_for_the_driver_each_time() -> None:
    made = simulated([3.0, 3.0], workers=1, service=1.0, starts=[5.0])
    assert made.seconds == 5.0 + 2 * (3.0 + 1.0)
    assert made.driver == 2.0


def test_a_driver_that_is_always_asked_sets_the_pace() -> None:
    made = simulated([1.0] * 1000, workers=100, service=0.1)
    # A hundred workers of a second a unit would need ten times as much of it.
    assert made.seconds == pytest.approx(1000 * 0.1, rel=0.02)
    assert made.driver == pytest.approx(100.0)
    assert made.driver_load > 0.98
    assert made.efficiency == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize(("workers", "service"), [(0, 0.1), (2, -1.0)])
def test_what_cannot_be_is_refused(workers: int, service: float) -> None:
    with pytest.raises(ValueError, match="a time is below 0"):
        simulated([1.0], workers, service)
