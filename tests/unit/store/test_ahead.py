import threading

import pytest

from editsweep.store.ahead import AHEAD, ahead


def test_results_come_in_order_and_not_all_at_once() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return 2 * item

    found = ahead(work, range(200))
    assert next(found) == 0
    assert len(begun) <= AHEAD
    assert list(found) == [2 * item for item in range(1, 200)]
    assert sorted(begun) == list(range(200))


def test_several_are_at_work_at_once() -> None:
    both = threading.Barrier(2, timeout=60)
    assert len(list(ahead(lambda _: both.wait(), ["a", "b"]))) == 2


def test_an_error_comes_where_its_result_would() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item

    found = ahead(work, range(4))
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(found)


def test_a_single_item_starts_no_thread() -> None:
    assert list(ahead(lambda _: threading.current_thread(), [1])) == [threading.main_thread()]
