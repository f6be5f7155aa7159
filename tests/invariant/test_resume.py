"""However a sweep is cut and interrupted, its results are the same."""

import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow.compute as pc
import pytest

from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

ROOT = Path(__file__).parents[2]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: ft, steps: 3}}, {{name: rome, moment: identity, contexts: 2, steps: 3}}]
datasets: ["{EDITS}"]
metrics: {{max_new_tokens: 3}}
"""
KEYS = ("cell_id", "edit_id", "probe_id", "metric", "protocol", "phase", "status")


def run(folder, *settings):
    options = RunOptions("inline", threads=1, cache=folder.parent / "cache", record=False)
    result = run_sweep(parse_sweep(SWEEP, settings), folder, options)
    assert result.exit_code == 0
    return SweepStore(folder)


def values(store):
    rows = store.table("measurements").to_pylist()
    return {tuple(row[key] for key in KEYS): row["value"] for row in rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    return run(tmp_path_factory.mktemp("whole") / "t", "unit_size=2")


@pytest.mark.parametrize(
    "setting", ["unit_size=1", "unit_size=16", "models=[{name: tiny-llama, token_budget: 96}]"]
)
def test_sizes_do_not_change_the_numbers(tmp_path, whole, setting):
    other = values(run(tmp_path / "t", setting))
    expected = values(whole)
    assert other.keys() == expected.keys()
    for key, value in expected.items():
        assert math.isclose(other[key], value, rel_tol=1e-4, abs_tol=1e-4), key


DRIVER = """
import sys
from pathlib import Path
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
text, folder = sys.argv[1:]
options = RunOptions("inline", threads=1, cache=Path(folder).parent / "cache", record=False)
sys.exit(run_sweep(parse_sweep(text, ["unit_size=2"]), Path(folder), options).exit_code)
"""


def start(folder):
    env = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", DRIVER, SWEEP, str(folder)], env=env)


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, "the driver ended by itself"
        time.sleep(0.01)


def has_committed(folder, units):
    manifest = folder / "manifest.jsonl"
    lines = manifest.read_bytes().count(b"\n") if manifest.exists() else 0
    return (folder / "plan.json").exists() and lines >= units


def test_a_killed_driver_goes_on_to_the_same_table(tmp_path, whole):
    folder = tmp_path / "t"
    for committed in (0, 4):
        driver = start(folder)
        wait_for(partial(has_committed, folder, committed), driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    again = run(folder, "unit_size=2")
    assert (folder / "leaderboard.csv").read_bytes() == (
        whole.folder / "leaderboard.csv"
    ).read_bytes()
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == len(again.committed()) == 12
    edits = again.table("edits")
    keys = pc.binary_join_element_wise(edits["cell_id"], edits["edit_id"], "/").to_pylist()
    assert len(keys) == len(set(keys)) == 24


def test_two_drivers_do_not_share_a_folder(tmp_path):
    folder = tmp_path / "t"
    driver = start(folder)
    wait_for((folder / "plan.json").exists, driver)
    with pytest.raises(Exception, match=f"in use by process {driver.pid}"):
        run(folder, "unit_size=2")
    assert driver.wait() == 0
