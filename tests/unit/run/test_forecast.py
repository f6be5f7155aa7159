"""A real sweep of a tiny model, and what a plan then says: the seconds that it recorded."""

from pathlib import Path

import pytest

from editsweep.errors import ConfigError
from editsweep.run.drive import INTERRUPTED, RunOptions, run_sweep
from editsweep.run.forecast import forecast
from editsweep.run.plan import make_plan
from editsweep.run.progress import Silent
from editsweep.run.rates import known
from editsweep.run.resolve import resolve
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

EDITS = Path(__file__).parents[2] / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: ft, steps: 1}}, {{name: rome, moment: identity, contexts: 2, steps: 1}}]
datasets: [{{name: "{EDITS}", limit: 4}}]
unit_size: 2
metrics: {{max_new_tokens: 2}}
"""
# Seconds are rounded to a thousandth in the log, of each unit.
ROUNDED = 0.004


def plan(*settings):
    return make_plan(resolve(parse_sweep(SWEEP, settings)))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder of a sweep that was run, beside its cache."""
    folder = tmp_path_factory.mktemp("done") / "t"
    options = RunOptions("inline", threads=1, cache=folder.parent / "cache", record=False)
    assert run_sweep(parse_sweep(SWEEP), folder, options).exit_code == 0
    return folder


@pytest.fixture(scope="module")
def recorded(done):
    """Seconds of each cell as the manifest has them; the model was loaded for what came before."""
    lines, made = SweepStore(done).committed(), plan()
    return {
        cell_id: sum(lines[u.unit_id].seconds for u in made.units if u.cell_id == cell_id)
        for cell_id in made.cells
    }


def test_a_plan_elsewhere_tells_the_seconds_that_the_manifest_has(done, recorded, tmp_path):
    cached, found = forecast(plan(), tmp_path / "t", workers=1, cache=done.parent / "cache")
    assert {cell_id: time.seconds for cell_id, time in found.cells.items()} == pytest.approx(
        recorded, abs=ROUNDED
    )
    assert {time.source for time in found.cells.values()} == {"same editor and dataset"}
    assert {time.device for time in found.cells.values()} == {"cpu, 1 thread"}
    assert (len(cached.units), len(cached.assets), len(cached.bases)) == (0, 1, 0)
    assert found.unknown == ()
    # The model and the unedited model's answers come on top; the asset is in the cache.
    rates = {rate.work.kind: rate for rate in known(done.parent / "cache")}
    first = rates["load"].edit_s + 4 * rates["base"].ask_s
    assert found.wall_s == pytest.approx(sum(recorded.values()) + first, abs=3 * ROUNDED)


def test_a_finished_sweep_has_nothing_left(done):
    made = plan()
    cached, found = forecast(made, done, cache=done.parent / "cache")
    assert cached.edits == dict.fromkeys(made.cells, 4)
    assert (len(cached.units), cached.bases) == (6, frozenset(made.bases))
    assert (found.wall_s, found.unknown) == (0, ())
    assert {(time.edits, time.source) for time in found.cells.values()} == {(0, "this sweep")}


def test_twice_the_edits_take_twice_as_long(done, recorded, tmp_path):
    made = plan("datasets[0].limit=8", "unit_size=4")
    cache = done.parent / "cache"
    _, found = forecast(made, tmp_path / "t", workers=1, cache=cache)
    times = [time.seconds for time in found.cells.values()]
    assert times == pytest.approx([2 * s for s in recorded.values()], abs=2 * ROUNDED)


def test_an_interrupted_run_leaves_its_rates(tmp_path):
    """Stopped after the first unit; the same folder then needs no cache to tell the rest."""

    class Stops(Silent):
        def update(self, now):
            if now.done:
                raise KeyboardInterrupt

    folder, cache = tmp_path / "t", tmp_path / "cache"
    options = RunOptions("inline", threads=1, cache=cache, record=False)
    sweep = parse_sweep(SWEEP, ["editors=[none]"])
    assert run_sweep(sweep, folder, options, Stops()).exit_code == INTERRUPTED
    assert "edit" in {rate.work.kind for rate in known(cache)}
    cached, found = forecast(plan("editors=[none]"), folder, 1, cache=tmp_path / "empty")
    (time,) = found.cells.values()
    assert (len(cached.units), time.edits, time.source) == (1, 2, "this sweep")
    assert time.seconds > 0


def test_what_a_cache_cannot_keep_does_not_fail_a_run(tmp_path):
    cache = tmp_path / "cache"
    (cache / "rates.jsonl").mkdir(parents=True)

    class Said(Silent):
        text = ""

        def say(self, message):
            self.text += message

    said = Said()
    options = RunOptions("inline", threads=1, cache=cache, record=False)
    sweep = parse_sweep(SWEEP, ["editors=[none]", "datasets[0].limit=1"])
    assert run_sweep(sweep, tmp_path / "t", options, said).exit_code == 0
    assert "not remembered for later plans" in said.text


@pytest.mark.parametrize(
    ("workers", "gpus", "said"), [(0, None, "--workers 0"), (2, 2.5, "--gpus-per-worker 2.5")]
)
def test_numbers_that_cannot_be_are_refused(tmp_path, workers, gpus, said):
    with pytest.raises(ConfigError, match=said):
        forecast(plan(), tmp_path, workers, gpus, tmp_path)
