import pytest
from hypothesis import given
from hypothesis import strategies as st

from editsweep.errors import ConfigError
from editsweep.run.layout import Layout, Machine, cores, lay_out


@pytest.mark.parametrize(
    ("machine", "units", "workers", "threads", "expected"),
    [
        (Machine(2), 9, None, None, Layout(2, 1)),
        (Machine(8), 3, None, None, Layout(3, 2)),
        (Machine(8), 9, 2, None, Layout(2, 4)),
        (Machine(8), 9, None, 4, Layout(2, 4)),
        (Machine(16, 2), 9, None, None, Layout(2, 8, 1)),
        (Machine(1), 0, None, None, Layout(1, 1)),
    ],
)
def test_the_machine_is_shared_out(machine, units, workers, threads, expected):
    assert lay_out(machine, units, workers, threads) == expected


@pytest.mark.parametrize(
    ("machine", "workers", "threads", "told"),
    [
        (Machine(2), 3, None, "3 workers of 1 threads need 3 cores, there are 2"),
        (Machine(4), 2, 3, "need 6 cores, there are 4"),
        (Machine(4, 1), 2, None, "2 workers need a GPU each, there are 1"),
        (Machine(4), 0, None, "--workers 0"),
        (Machine(4), None, 0, "--threads 0"),
    ],
)
def test_more_than_there_is_is_refused(machine, workers, threads, told):
    with pytest.raises(ConfigError) as caught:
        lay_out(machine, 9, workers, threads)
    assert told in str(caught.value)


@given(st.integers(1, 64), st.integers(0, 8), st.integers(0, 100))
def test_what_is_chosen_fits(cores_, gpus, units):
    layout = lay_out(Machine(cores_, gpus), units, None, None)
    assert layout.workers * layout.threads <= cores_
    assert layout.workers * layout.gpus <= gpus


def test_cores_are_those_of_this_process():
    assert cores() >= 1
