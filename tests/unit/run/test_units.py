from dataclasses import replace

import pytest

from editsweep.core.types import EditRequest, Regime
from editsweep.run.units import sampled, units_of
from editsweep.testing import tiny_requests


def cut(regime, requests, unit_size=16):
    base_of = [f"base{place // 3}" for place in range(len(requests))]
    return list(units_of("cell", regime, requests, unit_size, ["asset"], base_of))


def test_a_checkpoint_needs_the_one_before_and_the_answers_to_what_it_asks():
    requests = tiny_requests(10)
    first, second, third = cut(Regime("sequential", 2, 4, 3), requests, unit_size=1)
    assert [(u.start, u.stop) for u in (first, second, third)] == [(0, 4), (4, 8), (8, 10)]
    assert (first.after, second.after, third.after) == ("", first.unit_id, second.unit_id)
    assert first.needs == ("asset", "base0", "base1")
    assert second.needs[-1] == first.unit_id
    for unit in (first, second, third):
        asked = {f"base{place // 3}" for place in (*unit.again, *range(unit.start, unit.stop))}
        assert asked == {need for need in unit.needs if need.startswith("base")}
    drawn = sampled(requests, 3)
    assert [u.again for u in (first, second, third)] == [
        tuple(place for place in drawn if place < u.start) for u in (first, second, third)
    ]


def test_the_sample_is_drawn_by_what_the_edits_are():
    requests = tiny_requests(50)
    drawn = sampled(requests, 10)
    assert len(drawn) == 10
    assert drawn != list(range(10))
    backwards = requests[::-1]
    assert {requests[i].edit_id for i in drawn} == {
        backwards[i].edit_id for i in sampled(backwards, 10)
    }
    assert sampled(requests, 500) == list(range(50))


def test_an_overwritten_edit_is_not_asked_again():
    one, *others = tiny_requests(6)
    again = EditRequest.of(one.subject, one.prompt, "Atlantis")
    units = cut(Regime("sequential", 1, 2, 100), [one, others[0], again, *others[1:]])
    assert [unit.again for unit in units] == [(), (1,), (1, 2, 3), (1, 2, 3, 4, 5)]


@pytest.mark.parametrize(("size", "unit_size", "stops"), [(1, 4, [4, 8, 10]), (4, 6, [4, 8, 10])])
def test_other_units_are_whole_groups(size, unit_size, stops):
    regime = Regime("batch", size) if size > 1 else Regime()
    units = cut(regime, tiny_requests(10), unit_size)
    assert [unit.stop for unit in units] == stops
    assert {(unit.after, unit.again) for unit in units} == {("", ())}


def test_units_are_whole_cases_and_know_their_first_group():
    names = ["a", "a", "a", "b", "b", "", "", "c", "c", "c"]
    requests = [replace(r, case=c) for r, c in zip(tiny_requests(10), names, strict=True)]
    units = cut(Regime(), requests, unit_size=4)
    assert [(u.start, u.stop, u.group) for u in units] == [(0, 3, 0), (3, 7, 1), (7, 10, 4)]
    one_each = cut(Regime(), requests, unit_size=1)
    assert [(u.start, u.stop, u.group) for u in one_each] == [
        (0, 3, 0),
        (3, 5, 1),
        (5, 6, 2),
        (6, 7, 3),
        (7, 10, 4),
    ]
    for unit in units:
        assert unit.needs[1:] == tuple(
            dict.fromkeys(f"base{p // 3}" for p in range(unit.start, unit.stop))
        )
    batches = cut(Regime("batch", 4), requests, unit_size=8)
    assert [(u.start, u.group) for u in batches] == [(0, 0), (8, 2)]
