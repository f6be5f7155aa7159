"""The estimate of a plan from rates that were made up."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editsweep.run.estimate import Known, Workers, estimate, makespan, nearest
from editsweep.run.plan import make_plan
from editsweep.run.rates import Rate, Work, asset_work, base_work, edit_work, load_work
from editsweep.run.resolve import resolve
from editsweep.run.sweep import parse_sweep

EDITS = Path(__file__).parents[2] / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: rome, moment: 'world:train', contexts: 2}}]
datasets: [{{name: "{EDITS}", limit: 8}}]
unit_size: 2
"""
CPU, GPU = "cpu, 1 thread", "NVIDIA H100"
WORK = Work("edit", "m", "rome", "s", "d", "single", "a")
RATE = Rate(WORK, CPU, 4.0, 10, 1.0, 2.0, "2026")
ONE = Workers(1, None, CPU)


def plan(*settings):
    return make_plan(resolve(parse_sweep(SWEEP, settings)))


def rates_of(made, device=CPU):
    """Loading 10 s, a slice 1 s an edit, an asset 5 s, editing 2 s and asking 3 s an edit."""
    model = next(iter(made.cells.values())).model
    works = [
        *((edit_work(made, cell), 2.0, 3.0) for cell in made.cells.values()),
        *((base_work(made, part), 0.0, 1.0) for part in made.bases.values()),
        *((asset_work(need), 5.0, 0.0) for need in made.assets.values()),
        (load_work(model), 10.0, 0.0),
    ]
    return [Rate(work, device, 0.0, 1, edit_s, ask_s, "") for work, edit_s, ask_s in works]


def timed(made, workers=ONE, todo=None, done=(), device=CPU, rates=None):
    known = Known(rates_of(made, device) if rates is None else rates)
    return estimate(made, made.units if todo is None else todo, done, known, workers)


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 20))
def test_the_longest_first_is_near_the_best(seconds, workers):
    """Neither less than is possible, nor more than what any order without pauses takes."""
    least = max(*seconds, sum(seconds) / workers)
    assert least <= makespan(seconds, workers) <= sum(seconds) / workers + max(seconds)


def test_one_worker_does_all_one_after_another():
    found = timed(plan())
    assert found.wall_s == 10 + 2 * 5 + 8 * 1 + 2 * 8 * 5
    assert {(c.edits, c.edit_s, c.seconds, c.source) for c in found.cells.values()} == {
        (8, 5.0, 40.0, "this sweep")
    }
    assert (found.unknown, found.gpu_hours) == ((), None)


def test_workers_share_each_step():
    found = timed(plan(), Workers(4, None, CPU))
    assert found.wall_s == 10 + makespan([5, 5, 2, 2, 2, 2], 4) + 2 * 10


def test_only_what_is_left_and_not_there_counts():
    made = plan()
    *_, last = made.units
    found = timed(made, todo=[last], done=[*made.assets, *made.bases])
    assert found.wall_s == 10 + 10
    none, rome = found.cells.values()
    assert (none.edits, none.edit_s, none.seconds) == (0, 5.0, 0.0)
    assert (rome.edits, rome.seconds) == (2, 10.0)
    assert timed(made, todo=[]).wall_s == 0


def test_a_sequence_is_one_piece():
    made = plan(
        "regimes=[{sequential: {every: 2, sample: 2}}]", "editors=[ft, {name: ft, steps: 2}]"
    )
    again = sum(len(unit.again) for unit in made.units) // 2
    found = timed(made, Workers(8, None, CPU), done=made.bases)
    assert again > 0
    assert found.wall_s == 10 + 8 * 2 + (8 + again) * 3
    assert next(iter(found.cells.values())).seconds == found.wall_s - 10


def test_gpu_hours_are_what_workers_keep_gpus_busy():
    made = plan()
    alone = timed(made, device=GPU)
    assert alone.gpu_hours == alone.wall_s / 3600
    assert timed(made, Workers(1, 0.5, GPU), device=GPU).gpu_hours == alone.gpu_hours / 2
    # Two workers load a model each.
    assert timed(made, Workers(2, None, GPU), device=GPU).gpu_hours == (alone.wall_s + 10) / 3600
    assert timed(made, device=f"0.5 x {GPU}").gpu_hours == alone.gpu_hours / 2
    assert timed(made, Workers(1, 0.5, CPU)).gpu_hours is None


def test_what_was_never_measured_is_named_and_not_counted():
    made = plan()
    kept = [rate for rate in rates_of(made) if rate.work.editor not in ("none", "SecondMoments")]
    found = timed(made, rates=kept)
    assert found.unknown == ("none", "making SecondMoments")
    assert found.wall_s == 10 + 5 + 8 + 8 * 5
    none = next(iter(found.cells.values()))
    assert (none.edit_s, none.seconds, none.source) == (None, None, "unknown")
    said = found.to_json()
    assert (said["complete"], said["seconds"]) == (False, found.wall_s)


@pytest.mark.parametrize(
    ("changed", "source", "ask_s"),
    [
        ({}, "same editor and dataset", 4.0),
        ({"dataset": "e"}, "same editor", 4.0),
        ({"asked": "b"}, "same editor", 4.0),
        ({"settings": "t"}, "same editor, other settings", 4.0),
        ({"regime": "batch:5"}, "same editor, other settings", 4.0),
        ({"editor": "ft"}, None, None),
        ({"model": "n"}, None, None),
        ({"kind": "base"}, None, None),
    ],
)
def test_the_nearest_rate_is_told_and_scaled_to_the_questions(changed, source, ask_s):
    rate = replace(RATE, work=WORK._replace(**changed))
    found = nearest(WORK, Known(others=[rate]), CPU, probes=8.0)
    assert (found and (found.source, found.edit_s, found.ask_s)) == (
        source and (source, 1.0, ask_s)
    )


def test_nearer_rates_go_first_then_this_sweep_then_the_device_then_the_latest():
    far = replace(RATE, work=WORK._replace(dataset="e"), edit_s=9.0)
    assert nearest(WORK, Known([far], [RATE]), CPU).edit_s == 1.0
    own = replace(RATE, edit_s=8.0, device=GPU)
    found = nearest(WORK, Known([own], [RATE]), CPU)
    assert (found.edit_s, found.source) == (8.0, "this sweep")
    elsewhere = [replace(own, at="2027"), RATE, replace(RATE, device="cpu, 9 threads", at="2028")]
    assert nearest(WORK, Known(others=elsewhere), CPU).edit_s == 1.0
    assert nearest(WORK, Known(others=elsewhere), "gpu").edit_s == 8.0
    assert (
        nearest(WORK, Known(others=[replace(RATE, edit_s=7.0, at="2027"), RATE]), CPU).edit_s == 7
    )
