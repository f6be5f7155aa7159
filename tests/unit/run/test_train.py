"""A training in this process: made once, gone on with, found again, recorded once."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from editsweep.learn.checkpoint import NAME, steps_done
from editsweep.run.assets import find_asset, making, making_folder
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.progress import Silent
from editsweep.run.sweep import parse_sweep
from editsweep.run.train import TrainOptions, run_training, training_job
from editsweep.run.training_file import parse_training

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

ROOT = Path(__file__).parents[3]
EDITOR = """{name: mend, network: {blocks: 1, rank: 4}, training: {steps: 6, every: 2, models: 3,
  validate: 4, observe: 4, records: 60, rate: 0.01, warmup: 0}}"""
TRAINING = f"name: t\nmodel: tiny-llama\neditor: {EDITOR}\ndataset: world\n"


class Seen(Silent):
    """Keeps what is shown; stops at a step, as Ctrl-C does."""

    def __init__(self, stop_at=None):
        self.shown, self.said, self.stop_at = [], [], stop_at

    def update(self, now):
        self.shown.append(now)
        if now.done == self.stop_at:
            raise KeyboardInterrupt

    def say(self, message):
        self.said.append(message)


def train(cache, progress=None, **options):
    job = training_job(parse_training(TRAINING))
    options = {"record": False} | options
    return run_training(job, TrainOptions(threads=1, cache=cache, **options), progress)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return cache, train(cache, Seen()).asset


def same(asset, other):
    assert asset.meta == other.meta
    assert asset.tensors.keys() == other.tensors.keys()
    return all(torch.equal(t, other.tensors[name]) for name, t in asset.tensors.items())


def test_it_is_kept_and_found_again(undisturbed):
    cache, asset = undisturbed
    again = train(cache)
    assert (again.exit_code, again.found) == (0, True)
    assert same(find_asset(cache, again.key), again.asset)
    assert same(asset, again.asset)
    assert not making_folder(cache, again.key).exists()


def test_progress_says_how_it_is_going(tmp_path):
    seen = Seen()
    train(tmp_path, seen)
    assert [(now.done, now.total) for now in seen.shown] == [(0, 6), (2, 6), (4, 6), (6, 6)]
    last = str(seen.shown[-1])
    assert "6/6 steps" in last
    assert "steps/s" in last
    assert "validation loss" in last
    assert "paraphrase" in last


def test_ctrl_c_leaves_a_training_that_goes_on(tmp_path, undisturbed):
    stopped, seen = Seen(stop_at=4), Seen()
    result = train(tmp_path, stopped)
    assert (result.exit_code, result.asset) == (75, None)
    assert steps_done(making_folder(tmp_path, result.key)) == 2
    result = train(tmp_path, seen)
    assert "Going on after step 2." in seen.said
    assert [now.done_now for now in seen.shown] == [0, 2, 4]
    assert same(result.asset, undisturbed[1])
    assert not making_folder(tmp_path, result.key).exists()


DRIVER = """
import os, signal, sys
from pathlib import Path
from editsweep.run.progress import Silent
from editsweep.run.train import TrainOptions, run_training, training_job
from editsweep.run.training_file import parse_training
class Deadly(Silent):
    def update(self, now):
        if now.done == 4:
            os.kill(os.getpid(), signal.SIGKILL)
options = TrainOptions(threads=1, cache=Path(sys.argv[2]), record=False)
run_training(training_job(parse_training(sys.argv[1])), options, Deadly())
"""


def test_a_killed_training_goes_on_bit_for_bit(tmp_path, undisturbed):
    env = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline")}
    command = [sys.executable, "-c", DRIVER, TRAINING, str(tmp_path)]
    assert subprocess.run(command, env=env, check=False).returncode == -signal.SIGKILL
    result = train(tmp_path)
    assert not result.found
    assert same(result.asset, undisturbed[1])


def test_a_sweep_goes_on_with_a_training_and_uses_its_network(tmp_path):
    key = train(tmp_path / "cache", Seen(stop_at=4)).key
    path = making_folder(tmp_path / "cache", key) / NAME
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state = file.metadata()["state"]
    marked = state.replace('"train_wanted": 0.0', '"train_wanted": 123.0', 1)
    assert marked != state
    save_file(tensors, path, metadata={"state": marked})
    text = f"""
name: s
models: [tiny-llama]
editors: [{EDITOR}]
datasets: [{{name: world, limit: 2}}]
metrics: {{max_new_tokens: 2}}
"""
    seen = Seen()
    options = RunOptions("inline", threads=1, cache=tmp_path / "cache", record=False)
    result = run_sweep(parse_sweep(text), tmp_path / "s", options, seen)
    assert (result.exit_code, result.edits_failed) == (0, 0)
    assert any("editsweep train mend-world.yaml" in message for message in seen.said)
    kept = find_asset(tmp_path / "cache", key)
    assert kept.meta["curve"][0]["train_wanted"] == 123.0
    assert len(kept.meta["curve"]) == 4
    assert not making_folder(tmp_path / "cache", key).exists()


def test_one_process_at_a_time_makes_an_asset(tmp_path):
    waiting = []
    code = """
import sys
from pathlib import Path
from editsweep.run.assets import making
with making(Path(sys.argv[1]), "k") as work:
    (work / "state").touch()
    print("held", flush=True)
    sys.stdin.read()
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline")}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"

        def wait(who):
            waiting.append(who)
            holder.stdin.close()

        with making(tmp_path, "k", wait) as work:
            assert (work / "state").exists()
        assert str(holder.pid) in waiting[0]
    assert making_folder(tmp_path, "k").exists()


def test_what_made_nothing_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no"), making(tmp_path, "k"):
        raise ValueError("no")
    assert not making_folder(tmp_path, "k").exists()


def test_it_is_recorded_once(undisturbed, tmp_path):
    from mlflow import MlflowClient

    cache, asset = undisturbed
    for _ in range(2):
        assert train(cache, record=True, out=tmp_path).record_error == ""
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    place = client.get_experiment_by_name("editsweep")
    (run,) = client.search_runs([place.experiment_id])
    assert (run.info.run_name, run.info.status) == ("t", "FINISHED")
    assert run.data.params["editor.training.steps"] == "6"
    assert run.data.params["editor.network.rank"] == "4"
    assert run.data.tags["editsweep.method"] == "mend"
    assert run.data.tags["editsweep.split_digest"] == asset.meta["split"]["digest"]
    assert run.data.metrics["test.locality"] == asset.meta["test"]["locality"]
    history = client.get_metric_history(run.info.run_id, "validation_loss")
    assert [(point.step, point.value) for point in history] == [
        (line["step"], line["validation_loss"]) for line in asset.meta["curve"]
    ]
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {
        "curve.json",
        "network.json",
    }
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["world:train"]


def test_a_server_that_is_down_is_only_told(undisturbed):
    seen = Seen()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        result = train(undisturbed[0], seen, record=True, tracking_uri=uri)
    assert result.exit_code == 0
    assert result.record_error
    assert "secret" not in str(seen.said)
    assert "Not recorded in MLflow" in seen.said[-1]
