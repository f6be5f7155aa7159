"""A real Slurm of one node on the loopback, from Debian's packages: munged, slurmctld and slurmd."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from editsweep.run.cluster import SHORT_TEMP
from editsweep.run.status import read_status

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo")
SECONDS = 150
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none]
datasets: [{{name: "{EDITS}", limit: 2}}]
metrics: {{max_new_tokens: 2, generate: []}}
"""
LONG = f"""
name: long
models: [tiny-llama]
editors: [{{name: ft, steps: 60}}]
datasets: ["{EDITS}"]
seeds: [{", ".join(map(str, range(60)))}]
metrics: {{max_new_tokens: 2, generate: []}}
unit_size: 1
"""
CONF = """
ClusterName=editsweep
SlurmctldHost={host}(127.0.0.2)
SlurmctldParameters=enable_configless
SlurmUser=root
SlurmctldPort={ctld}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
JobRequeue=1
MinJobAge=600
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostName={host} NodeAddr={address} Port={port} CPUs=2 State=UNKNOWN"


def tool(name):
    return shutil.which(name, path=os.pathsep.join((os.environ["PATH"], "/usr/sbin")))


def free_port(address):
    with socket.create_server((address, 0)) as server:
        return server.getsockname()[1]


class Slurm:
    """The daemons and their folder; `env` is that of a user's commands."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        self.env = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PYTHONPATH": str(ROOT / "pipeline"),
            "HOME": str(folder),
            "EDITSWEEP_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }

    def start(self):
        """The daemons; the reason why not, or nothing."""
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        for name in ("state", "runs"):
            (self.folder / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        nodes = [
            NODE.format(
                name=f"n{i}", host=host, address=f"127.0.0.{i + 2}", port=free_port("127.0.0.2")
            )
            for i in range(2)
        ]
        text = CONF.format(
            folder=self.folder, host=host, ctld=free_port("127.0.0.2"), nodes="\n".join(nodes)
        )
        (self.folder / "slurm.conf").write_text(text)
        self._daemon(
            tool("munged"), "--foreground", "--force", f"--key-file={key}",
            f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munge.pid",
            f"--log-file={self.folder}/munge.log", f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        if not self._until((self.folder / "munge.socket").exists, 10):
            return "munged did not start"
        self._daemon(tool("slurmctld"), "-D", "-c")
        for i in range(2):
            self._daemon(tool("slurmd"), "-D", "-N", f"n{i}")
        if not self._until(
            lambda: self.run("sinfo", "-h", "-o", "%T").stdout.split() == ["idle"], 30
        ):
            return "Slurm's nodes did not become idle"
        return ""

    def _daemon(self, *command):
        with (self.folder / "daemons.log").open("a") as log:
            self.started.append(
                subprocess.Popen(
                    command, env=self.env, stdout=log, stderr=log, start_new_session=True
                )
            )

    def _until(self, is_so, seconds):
        deadline = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > deadline or any(p.poll() is not None for p in self.started):
                return False
            time.sleep(0.2)
        return True

    def end(self):
        self.run("scancel", "--user=root")
        self._until(lambda: not self.run("squeue", "-h").stdout.strip(), 20)
        for process in reversed(self.started):
            process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self, *command):
        return subprocess.run(
            command, env=self.env, cwd=self.folder, capture_output=True, text=True, check=False
        )

    def submit(self, path, *settings):
        command = [sys.executable, "-c", "from editsweep.cli.main import main; main()", "submit"]
        options = [word for setting in settings for word in ("--with", setting)]
        done = self.run(*command, path, "--to", "slurm", "--out", "runs", "--json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["job_id"]

    def job(self, number):
        """State, exit code and how often it was queued again."""
        said = self.run("scontrol", "show", "job", number, "--oneliner").stdout
        found = dict(word.split("=", 1) for word in said.split() if "=" in word)
        return found["JobState"], found["ExitCode"], int(found["Restarts"])

    def wait(self, number, states):
        deadline = time.monotonic() + SECONDS
        while self.job(number)[0] not in states:
            assert time.monotonic() < deadline, f"{self.job(number)}\n{self.log()}"
            time.sleep(0.3)
        return self.job(number)

    def log(self):
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.out")))


@pytest.fixture(scope="module")
def slurm():
    if os.getuid():
        pytest.skip("Slurm's daemons are started as root here")
    if missing := [name for name in TOOLS if tool(name) is None]:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    folder = Path(tempfile.mkdtemp(prefix="es-slurm-", dir=SHORT_TEMP))
    made = Slurm(folder)
    try:
        if reason := made.start():
            pytest.skip(f"{reason}: {(folder / 'daemons.log').read_text()[-2000:]}")
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")


def test_a_sweep_on_one_node(slurm):
    path = slurm.folder / "t.yaml"
    path.write_text(SWEEP)
    number = slurm.submit(path, "cpus=1", "time=10")
    assert slurm.wait(number, ENDED) == ("COMPLETED", "0:0", 0), slurm.log()
    assert read_status(slurm.folder / "runs" / "t")["state"] == "complete"
    assert not list(SHORT_TEMP.glob(f"es-{number}-*"))


def test_an_array_of_seeds_over_two_nodes(slurm):
    path = slurm.folder / "seeded.yaml"
    path.write_text(SWEEP.replace("name: t", "name: seeded"))
    number = slurm.submit(path, "cpus=1", "nodes=2", "seeds=[5]", "workers=2")
    assert slurm.wait(number, ENDED) == ("COMPLETED", "0:0", 0), slurm.log()
    found = read_status(slurm.folder / "runs" / "seeded-seed-5")
    assert found["state"] == "complete"
    assert not list(SHORT_TEMP.glob(f"es-{number}-*"))


def test_a_warning_keeps_what_is_done_and_queues_the_job_again(slurm):
    path = slurm.folder / "long.yaml"
    path.write_text(LONG)
    number = slurm.submit(path, "cpus=1")
    manifest = slurm.folder / "runs" / "long" / "manifest.jsonl"
    deadline = time.monotonic() + SECONDS
    while not (manifest.exists() and manifest.stat().st_size):
        assert time.monotonic() < deadline, slurm.log()
        time.sleep(0.3)
    # Slurm's own warning (--signal=B:USR1@...) comes to the batch shell like this.
    assert slurm.run("scancel", "--batch", "--signal=USR1", number).returncode == 0
    assert slurm.wait(number, ("PENDING", *ENDED))[0] == "PENDING", slurm.log()
    assert slurm.job(number)[2] == 1
    found = read_status(slurm.folder / "runs" / "long")
    assert 0 < found["units_done"] < found["units"]
    assert found["last_event"]["event"] == "interrupted"
    slurm.run("scancel", number)


def test_a_head_that_does_not_start_is_a_failed_job(slurm):
    programs = slurm.folder / "broken"
    programs.mkdir()
    fake = programs / "ray"
    fake.write_text("#!/bin/sh\necho this ray is broken >&2\nexit 1\n")
    fake.chmod(0o755)
    number = slurm.submit(slurm.folder / "t.yaml", "cpus=1", "nodes=2", f"bin={programs}")
    assert slurm.wait(number, ENDED)[:2] == ("FAILED", "1:0")
    said = slurm.log()
    assert "this ray is broken" in said
    assert "Ray's head did not start" in said
