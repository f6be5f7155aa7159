"""Real Ray actors on this machine: the same results, also when processes are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from editsweep.errors import ConfigError, WorkerError
from editsweep.run.cluster import SHORT_TEMP, cluster_machine
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.layout import cores
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: ft, steps: 3}}, {{name: rome, moment: identity, contexts: 2, steps: 3}}]
datasets: ["{EDITS}"]
metrics: {{max_new_tokens: 3}}
unit_size: 2
"""
WORKER = "ray::Worker"
OURS = f"editsweep-{os.getpid()}-*"


def options(folder, **changes):
    return RunOptions(threads=1, cache=folder.parent / "cache", record=False, **changes)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """The leaderboard of an undisturbed run without Ray."""
    folder = tmp_path_factory.mktemp("inline") / "t"
    run_sweep(parse_sweep(SWEEP), folder, options(folder, executor="inline"))
    return (folder / "leaderboard.csv").read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_does_not_change_the_table(tmp_path, board, workers):
    if workers > cores():
        pytest.skip(f"this machine has {cores()} cores")
    folder = tmp_path / "t"
    result = run_sweep(parse_sweep(SWEEP), folder, options(folder, workers=workers))
    assert result.exit_code == 0
    assert (folder / "leaderboard.csv").read_bytes() == board


SEQUENCE = "regimes=[{sequential: {size: 1, every: 2, sample: 4}}]"


@pytest.mark.skipif(cores() < 2, reason="this machine has one core")
def test_a_sequence_is_the_same_on_two_workers_of_which_one_is_killed(tmp_path, results, strike):
    inline, folder, progress = tmp_path / "inline" / "t", tmp_path / "t", strike(WORKER)
    run_sweep(parse_sweep(SWEEP, [SEQUENCE]), inline, options(inline, executor="inline"))
    chosen = options(folder, workers=2)
    result = run_sweep(parse_sweep(SWEEP, [SEQUENCE]), folder, chosen, progress)
    assert (result.exit_code, len(progress.struck)) == (0, 1)
    assert results(folder) == results(inline)
    assert len(results(folder)["chains"]) == 3


def test_a_killed_worker_changes_nothing(tmp_path, board, strike):
    folder, progress = tmp_path / "t", strike(WORKER)
    result = run_sweep(parse_sweep(SWEEP), folder, options(folder), progress)
    assert len(progress.struck) == 1
    assert any("died and was replaced" in message for message in progress.said)
    assert (result.exit_code, result.edits_failed) == (0, 0)
    assert (folder / "leaderboard.csv").read_bytes() == board
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == len(SweepStore(folder).committed()) == 12


DRIVER = """
import sys
from pathlib import Path
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
text, folder = sys.argv[1:]
options = RunOptions(threads=1, cache=Path(folder).parent / "cache", record=False)
sys.exit(run_sweep(parse_sweep(text), Path(folder), options).exit_code)
"""


def start(folder):
    env = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline")}
    command = [sys.executable, "-c", DRIVER, SWEEP, str(folder)]
    driver = subprocess.Popen(command, env=env, start_new_session=True)
    manifest = folder / "manifest.jsonl"
    while not (manifest.exists() and manifest.read_bytes().count(b"\n") >= 2):
        assert driver.poll() is None, "the driver ended by itself"
        time.sleep(0.02)
    return driver


def test_a_killed_driver_leaves_no_worker_and_goes_on(tmp_path, board, processes, have_ended):
    folder = tmp_path / "t"
    driver = start(folder)
    workers = processes(WORKER, driver.pid)
    assert workers
    driver.kill()
    driver.wait()
    assert have_ended(workers, 60)
    result = run_sweep(parse_sweep(SWEEP), folder, options(folder))
    assert result.exit_code == 0
    assert 0 < result.units_now < 12
    assert (folder / "leaderboard.csv").read_bytes() == board


@pytest.mark.parametrize(
    ("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)]
)
def test_ctrl_c_and_a_schedulers_sigterm_drain(tmp_path, send, number):
    folder = tmp_path / "t"
    driver = start(folder)
    send(driver.pid, number)
    assert driver.wait(60) == 75
    log = (folder / "progress.jsonl").read_text().splitlines()
    assert '"interrupted"' in log[-1]
    assert not any("worker_died" in line for line in log)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    (tmp_path / "a-long-name-for-temporary-files").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "a-long-name-for-temporary-files"))
    monkeypatch.setattr("tempfile.tempdir", None)
    before, folders = dict(os.environ), set(SHORT_TEMP.glob(OURS))
    folder = tmp_path / "t"
    run_sweep(parse_sweep(SWEEP, ["editors=[none]"]), folder, options(folder))
    assert not (tmp_path / ".ray").exists()
    assert set(SHORT_TEMP.glob(OURS)) <= folders
    before["RAY_CLIENT_MODE"] = os.environ["RAY_CLIENT_MODE"]  # Ray's own, set on import
    assert dict(os.environ) == before


def test_an_address_without_a_cluster_is_an_error():
    with pytest.raises(WorkerError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        cluster_machine("127.0.0.1:1")
    with pytest.raises(ConfigError, match="host:port"):
        cluster_machine("ray://somewhere:10001")
