"""Signals: the first asks, the second aborts, and a scheduler's warning never does."""

import os
import signal
import threading

import pytest

from editsweep.run.stop import stoppable

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def handlers():
    return [signal.getsignal(number) for number in ASKING]


@pytest.mark.parametrize("number", ASKING)
def test_the_first_signal_asks_and_says_so_once(number):
    said = []
    with stoppable(said.append) as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
    assert len(said) == 1
    assert "Stopping" in said[0]


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", ASKING)
def test_the_second_aborts(first, second):
    with stoppable(lambda _: None):
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)


@pytest.mark.parametrize("first", ASKING)
def test_a_warning_never_aborts(first):
    with stoppable(lambda _: None) as stop:
        for number in (first, signal.SIGUSR1, signal.SIGUSR1):
            os.kill(os.getpid(), number)
    assert stop.asked


def test_the_handlers_from_before_are_back():
    before = handlers()
    with stoppable(lambda _: None):
        assert not set(map(id, handlers())) & set(map(id, before))
    assert handlers() == before


def test_another_thread_handles_no_signals():
    before, seen = handlers(), []

    def work():
        with stoppable(lambda _: None) as stop:
            seen.append((handlers(), stop.asked))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
