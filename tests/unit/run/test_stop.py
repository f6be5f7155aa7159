"""Being asked to end: once is a request, twice ends at once, and handlers are put back."""

import signal

import pytest

from editsweep.run.stop import stoppable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_asks_and_the_second_ends(number):
    said = []
    before = signal.getsignal(number)
    with stoppable(said.append) as stop:
        assert not stop.asked
        signal.raise_signal(number)
        assert stop.asked
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_time_limit_after_its_warning_ends_at_once():
    with stoppable(str) as stop:
        signal.raise_signal(signal.SIGUSR1)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
