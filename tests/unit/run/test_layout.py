import pytest
from hypothesis import given
from hypothesis import strategies as st

from editsweep.errors import ConfigError
from editsweep.run.layout import (
    Layout,
    Machine,
    cores,
    device_text,
    gpus_of,
    lay_out,
    lay_out_nodes,
    room,
)


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


@pytest.mark.parametrize(
    ("gpus", "workers", "whole"), [(0.5, 4, 2), (0.4, 4, 2), (0.3, 6, 2), (1, 2, 2)]
)
def test_workers_share_gpus_but_none_lies_on_two(gpus, workers, whole):
    layout = lay_out(Machine(16, 2), 99, None, None, gpus)
    assert layout == Layout(workers, 16 // workers, gpus)
    assert layout.whole_gpus == whole
    with pytest.raises(ConfigError, match=f"choose --workers {workers} or fewer"):
        lay_out(Machine(16, 2), 99, workers + 1, None, gpus)


@pytest.mark.parametrize(
    ("machine", "gpus", "told"),
    [
        (Machine(4, 2), 0, "--gpus-per-worker 0: write 1, a part"),
        (Machine(4, 2), 1.5, "--gpus-per-worker 1.5: write 1, a part"),
        (Machine(4, 2), float("inf"), "--gpus-per-worker inf: write 1, a part"),
        (Machine(4, 2), float("nan"), "--gpus-per-worker nan: write 1, a part"),
        (Machine(4, 2), 3, "--gpus-per-worker 3: there are 2, choose 2 or fewer"),
        (Machine(4), 0.5, "there is no GPU"),
    ],
)
def test_parts_of_gpus_that_cannot_be_had(machine, gpus, told):
    with pytest.raises(ConfigError, match=told):
        lay_out(machine, 9, None, None, gpus)


def test_a_worker_over_several_gpus():
    layout = lay_out(Machine(16, 5), 99, None, None, 2)
    assert layout == Layout(2, 8, 2)
    assert layout.whole_gpus == 4
    with pytest.raises(ConfigError, match="3 workers need 2 GPUs each, there are 5: choose --work"):
        lay_out(Machine(16, 5), 99, 3, None, 2)


def test_a_worker_over_several_gpus_lies_on_one_node():
    nodes = (Machine(8, 1), Machine(8, 3), Machine(8, 2))
    assert room(nodes, 1, 2) == 2
    assert lay_out_nodes(nodes, 99, None, None, 3) == Layout(1, 8, 3)
    with pytest.raises(ConfigError, match="lies on one node, the most there are 3, choose 3"):
        lay_out_nodes(nodes, 99, None, None, 4)
    with pytest.raises(ConfigError, match="9 threads and 2 GPUs fits on no node"):
        lay_out_nodes(nodes, 99, None, 9, 2)


@pytest.mark.parametrize(
    ("units", "workers", "threads", "expected"),
    [
        (99, None, None, Layout(12, 1)),
        (99, None, 3, Layout(3, 3)),
        (3, None, None, Layout(3, 4)),
        (99, 2, None, Layout(2, 4)),
        (99, 40, None, Layout(40, 1)),  # the most that there may be, once there are nodes for them
        (5, 40, None, Layout(5, 2)),
    ],
)
def test_no_worker_lies_on_two_nodes(units, workers, threads, expected):
    nodes = (Machine(8), Machine(4), Machine(0))
    assert lay_out_nodes(nodes, units, workers, threads) == expected


def test_a_worker_that_fits_on_no_node_is_refused():
    nodes = (Machine(8), Machine(4, 1))
    with pytest.raises(ConfigError, match="9 threads and a GPU fits on no node, the widest"):
        lay_out_nodes(nodes, 9, None, 9)
    assert room(nodes, 4, 0) == 3
    assert room(nodes, 4, 1) == 1


@given(st.integers(1, 64), st.integers(0, 8), st.integers(0, 100))
def test_what_is_chosen_fits(cores_, gpus, units):
    layout = lay_out(Machine(cores_, gpus), units, None, None)
    assert layout.workers * layout.threads <= cores_
    assert layout.workers * layout.gpus <= gpus


def test_cores_are_those_of_this_process():
    assert cores() >= 1


@pytest.mark.parametrize(
    ("device", "text", "gpus"),
    [
        (("cpu", 1, 0), "cpu, 1 thread", 0),
        (("cpu", 2, 1), "cpu, 2 threads", 0),
        (("NVIDIA H100", 4, 1), "NVIDIA H100", 1),
        (("NVIDIA H100", 4, 0.25), "0.25 x NVIDIA H100", 0.25),
        (("Some x GPU", 4, 1), "Some x GPU", 1),
    ],
)
def test_a_device_is_written_and_its_gpus_read(device, text, gpus):
    assert device_text(*device) == text
    assert gpus_of(text) == gpus
    assert gpus_of("") == 0
