import pytest
import torch

from editsweep.model.threads import threads


@pytest.mark.parametrize(("count", "within"), [(2, 2), (3, 3), (None, 1)])
def test_threads_are_as_before_whatever_happens(count, within):
    def failing():
        with threads(count):
            assert torch.get_num_threads() == within
            raise ZeroDivisionError

    with threads(1):
        with pytest.raises(ZeroDivisionError):
            failing()
        assert torch.get_num_threads() == 1
