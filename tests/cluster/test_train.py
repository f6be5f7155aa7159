"""Ray Train on this machine: the same losses as one worker, also after processes were killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from editsweep.errors import ConfigError
from editsweep.learn.checkpoint import steps_done
from editsweep.run.assets import making_folder
from editsweep.run.cluster import SHORT_TEMP
from editsweep.run.layout import cores
from editsweep.run.train import TrainOptions, run_training, training_job
from editsweep.run.training_file import parse_training

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(cores() < 2, reason="two workers need two cores"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of Ray
]

ROOT = Path(__file__).parents[2]
TRAINING = """
name: t
model: tiny-llama
editor: {name: mend, network: {blocks: 1, rank: 4}, training: {steps: 6, every: 2, models: 3,
  validate: 5, observe: 4, records: 60, rate: 0.01, warmup: 0}}
dataset: world
"""
TRAINER = "ray::RayTrainWorker"
OURS = f"editsweep-{os.getpid()}-*"


def train(cache, progress=None, settings=(), **options):
    job = training_job(parse_training(TRAINING, settings))
    options = TrainOptions(threads=1, cache=cache, record=False, **options)
    return run_training(job, options, progress)


@pytest.fixture(scope="module")
def two(tmp_path_factory, strike):
    """What two undisturbed workers make."""
    seen = strike(TRAINER, after=99)
    result = train(tmp_path_factory.mktemp("two"), seen, workers=2)
    assert seen.done == [0, 2, 4, 6]
    return result.asset


def test_the_number_of_workers_does_not_change_the_losses(tmp_path, two):
    one = train(tmp_path, executor="inline").asset
    assert [line["step"] for line in two.meta["curve"]] == [0, 2, 4, 6]
    for line, other in zip(one.meta["curve"], two.meta["curve"], strict=True):
        assert line == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert one.meta["test"] == pytest.approx(two.meta["test"], rel=1e-4, abs=1e-6)
    assert one.meta["split"] == two.meta["split"]
    first, last = one.meta["curve"][0], one.meta["curve"][-1]
    assert abs(first["validation_loss"] - last["validation_loss"]) > 1e-3


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
options = TrainOptions(workers=2, threads=1, cache=Path(sys.argv[2]), record=False)
run_training(training_job(parse_training(sys.argv[1])), options, Deadly())
"""


def test_killed_drivers_and_workers_change_nothing(tmp_path, two, strike):
    env = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline")}
    command = [sys.executable, "-c", DRIVER, TRAINING, str(tmp_path)]
    driver = subprocess.run(command, env=env, start_new_session=True, check=False)
    assert driver.returncode == -signal.SIGKILL
    key = training_job(parse_training(TRAINING)).recipe.key
    assert steps_done(making_folder(tmp_path, key)) >= 2
    seen = strike(TRAINER, after=0)
    asset = train(tmp_path, seen, workers=2).asset
    assert len(seen.struck) == 1
    assert any("Going on after step" in message for message in seen.said)
    assert any("started again" in message for message in seen.said)
    assert asset.meta == two.meta
    for name, tensor in two.tensors.items():
        assert torch.equal(asset.tensors[name], tensor)
    made = {path.name for path in (tmp_path / "making").iterdir()}
    assert made <= {"hidden"}


def test_an_error_of_the_training_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    before, folders = dict(os.environ), set(SHORT_TEMP.glob(OURS))
    with pytest.raises(ConfigError, match="training takes 300 edits a step"):
        train(tmp_path, settings=["editor.training.models=300"], executor="ray", workers=1)
    assert not (tmp_path / "ray_results").exists()
    assert set(SHORT_TEMP.glob(OURS)) <= folders
    assert dict(os.environ) == before | {"RAY_CLIENT_MODE": os.environ["RAY_CLIENT_MODE"]}
