"""The sbatch script's bash gets a signal: its driver is asked, and the job is queued again."""

import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest

from editsweep.launch.job import Job, make_target

DRAINS = "trap 'exit 75' USR1 TERM\n"
# Bash runs a trap only when its own command has ended, so what it waits for is in the background.
WAITS = 'touch "$UP"\nsleep 60 &\nwait $!\n'
FAKES = {
    "squeue": 'echo "${JOB_STATE:-RUNNING}"\n',
    "scontrol": 'echo "$@" >>"$ASKED"\n',
}
SECONDS = 30


@pytest.fixture
def start(tmp_path):
    """Starts a script whose `editsweep` is the given one; ended at the end with all that it began."""
    begun = []

    def start(driver, settings=("cpus=1",), **variables):
        programs = tmp_path / "bin"
        programs.mkdir()
        for name, text in {**FAKES, **driver}.items():
            (programs / name).write_text(f"#!/bin/bash\n{text}")
            (programs / name).chmod(0o755)
        job = Job("demo", "0123456789abcdef" * 2, "name: demo\n", str(tmp_path), "runs", 4)
        env = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "UP": str(tmp_path / "up"),
            "ASKED": str(tmp_path / "asked"),
            "SLURM_JOB_ID": str(os.getpid()),
            **variables,
        }
        command = ["bash", "-c", make_target("slurm", settings).render(job)]
        begun.append(subprocess.Popen(command, env=env, start_new_session=True))
        deadline = time.monotonic() + SECONDS
        while not (tmp_path / "up").exists():
            assert begun[0].poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return begun[0]

    yield start
    for process in begun:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def queued_again(tmp_path):
    asked = tmp_path / "asked"
    return asked.read_text().splitlines() if asked.exists() else []


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@pytest.mark.parametrize("driver", [DRAINS, ""], ids=["drains", "not-ready"])
def test_a_warning_reaches_the_driver_and_the_job_is_queued_again(start, tmp_path, number, driver):
    process = start({"editsweep": driver + WAITS})
    process.send_signal(number)
    assert process.wait(SECONDS) == 75
    assert queued_again(tmp_path) == [f"requeue {os.getpid()}"]


def test_a_cancelled_job_is_not_queued_again(start, tmp_path):
    process = start({"editsweep": DRAINS + WAITS}, JOB_STATE="CANCELLED")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 75
    assert queued_again(tmp_path) == []


def test_a_driver_that_does_not_stop_is_warned_and_ends_as_it_ends(start, tmp_path):
    ends = "trap 'echo warned >>\"$ASKED\"; exit 3' USR1\n"
    process = start({"editsweep": ends + WAITS})
    process.send_signal(signal.SIGUSR1)
    assert process.wait(SECONDS) == 3
    assert queued_again(tmp_path) == ["warned"]


def test_a_warning_while_ray_starts_starts_no_driver(start, tmp_path):
    host = 'echo "$@" | grep -q hostnames && printf "n0\\nn1\\n" || echo NodeAddr=127.0.0.9\n'
    fakes = {
        "scontrol": f'[ "$1" != requeue ] || {{ echo "$@" >>"$ASKED"; exit; }}\n{host}',
        "srun": f"cat >/dev/null\n{WAITS}",
        "editsweep": 'echo started >>"$ASKED"\n',
    }
    process = start(fakes, ("cpus=1", "nodes=2"), SLURM_JOB_NODELIST="n[0-1]")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(SECONDS) == 75
    assert queued_again(tmp_path) == [f"requeue {os.getpid()}"]
