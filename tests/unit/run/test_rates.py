"""Rates out of a progress log, and the file in the cache that remembers them."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from editsweep.run import rates
from editsweep.run.plan import make_plan
from editsweep.run.rates import Rate, Work, edit_work, known, measured, remember
from editsweep.run.resolve import resolve
from editsweep.run.sweep import parse_sweep

EDITS = Path(__file__).parents[2] / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: rome, moment: identity}}]
datasets: [{{name: "{EDITS}", limit: 4}}]
unit_size: 2
"""
DAY = "2026-01-01T00:00:0{}.000+00:00"
RATE = Rate(Work("edit", "m", "rome"), "cpu, 1 thread", 3.0, 4, 1.0, 0.5, DAY.format(0))


def plan(*settings):
    return make_plan(resolve(parse_sweep(SWEEP, settings)))


def committed(unit, second=0, **fields):
    event = {"event": "committed", "unit": unit.unit_id, "seconds": 9.0, "work_s": 4.0}
    return {"time": DAY.format(second), **event, "edit_s": 3.0, "device": "cpu, 1 thread", **fields}


def log(folder, *events):
    folder.mkdir(exist_ok=True)
    text = "".join(f"{json.dumps(event)}\n" for event in events)
    (folder / "progress.jsonl").write_text(text + '{"event": "comm')


def units_of(made, editor):
    return [unit for unit in made.units if made.cells[unit.cell_id].editor.name == editor]


def test_units_give_seconds_an_edit_of_editing_and_of_asking(tmp_path):
    made = plan()
    first, second = units_of(made, "rome")
    log(tmp_path, committed(first), committed(second, 5, work_s=2.0, edit_s=1.0))
    (rate,) = measured(made, tmp_path)
    assert rate.work == edit_work(made, made.cells[first.cell_id])
    assert (rate.count, rate.edit_s, rate.ask_s) == (4, 1.0, 0.5)
    assert (rate.device, rate.at) == ("cpu, 1 thread", DAY.format(5))
    requests = made.cells[first.cell_id].records.data.requests
    assert rate.probes == sum(len(r.all_probes) for r in requests) / 4


def test_what_was_done_twice_counts_as_it_was_done_last(tmp_path):
    made = plan()
    unit, _ = units_of(made, "rome")
    log(tmp_path, committed(unit, work_s=400.0), committed(unit))
    (rate,) = measured(made, tmp_path)
    assert (rate.count, rate.edit_s + rate.ask_s) == (2, 2.0)


def test_a_unit_that_came_to_nothing_says_nothing(tmp_path):
    made = plan()
    lost = {"event": "committed", "unit": made.units[0].unit_id, "seconds": 0.0}
    log(tmp_path, {"time": DAY.format(0), **lost}, committed(replace(made.units[0], unit_id="x")))
    assert measured(made, tmp_path) == []
    log(tmp_path, {"event": "committed", "time": DAY.format(0)}, {"event": "loaded"}, [], 7)
    assert measured(made, tmp_path) == []
    assert measured(made, tmp_path / "nowhere") == []


def test_a_log_of_before_has_whole_seconds_and_no_device(tmp_path):
    made = plan()
    unit = units_of(made, "rome")[0]
    old = {"event": "committed", "unit": unit.unit_id, "seconds": 3.0, "time": DAY.format(0)}
    log(tmp_path, old)
    (rate,) = measured(made, tmp_path)
    assert (rate.edit_s, rate.ask_s, rate.device) == (0.0, 1.5, "")


def test_edits_of_a_sequence_that_are_asked_again_are_counted(tmp_path):
    made = plan("regimes=[{sequential: {every: 2, sample: 2}}]", "editors=[{name: ft}]")
    _, second = made.units
    assert len(second.again) > 0
    log(tmp_path, committed(second))
    (rate,) = measured(made, tmp_path)
    assert rate.ask_s == pytest.approx(1.0 / (2 + len(second.again)))
    assert rate.edit_s == 1.5


def test_models_slices_and_assets_have_rates_too(tmp_path):
    made = plan("editors[1]={name: rome, moment: 'world:train'}")
    asset, base = next(iter(made.assets)), next(iter(made.bases))
    at = {"device": "cpu, 1 thread", "time": DAY.format(0)}
    log(
        tmp_path,
        {"event": "loaded", "model": "tiny-llama", "seconds": 7.0, **at},
        {"event": "loaded", "model": "tiny-llama", "seconds": 9.0, **at},
        {"event": "prepared", "task": asset, "seconds": 5.0, **at},
        {"event": "prepared", "task": base, "seconds": 1.0, **at},
    )
    found = {r.work.kind: (r.count, r.edit_s, r.ask_s) for r in measured(made, tmp_path)}
    assert found == {"load": (2, 8.0, 0.0), "asset": (1, 5.0, 0.0), "base": (2, 0.0, 0.5)}


def test_the_latest_of_a_kind_is_remembered(tmp_path):
    newer = replace(RATE, edit_s=2.0, at=DAY.format(1))
    other = replace(RATE, device="cpu, 2 threads")
    remember(tmp_path, [newer, other])
    remember(tmp_path, [RATE])  # measured earlier, told later
    assert sorted(known(tmp_path), key=lambda rate: rate.device) == [newer, other]


def test_the_oldest_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "MOST", 2)
    several = [replace(RATE, device=f"cpu, {n} threads", at=DAY.format(n)) for n in (3, 1, 2)]
    remember(tmp_path, several)
    assert [rate.at for rate in known(tmp_path)] == [DAY.format(2), DAY.format(3)]


def test_a_device_without_a_name_is_not_for_others(tmp_path):
    remember(tmp_path / "cache", [replace(RATE, device="")])
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "7", '{"work": {}}', RATE.text().replace("0.5", "-1")]
)
def test_a_line_that_is_no_rate_is_passed_over(tmp_path, line):
    (tmp_path / "rates.jsonl").write_text(f"{line}\n{RATE.text()}\n")
    assert known(tmp_path) == [RATE]


def test_drivers_that_end_at_once_lose_nothing(tmp_path):
    told = [replace(RATE, device=f"cpu, {n} threads") for n in range(2, 10)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda rate: remember(tmp_path, [rate]), told))
    assert {rate.device for rate in known(tmp_path)} == {rate.device for rate in told}
