"""Rendered scripts in a real bash, with programs that write down how they were called."""

import os
import subprocess
from collections import namedtuple

import pytest

from editsweep.launch.job import Job

PROGRAMS = ("editsweep", "srun", "scontrol", "squeue", "python")
# A program's file of calls: NUL after each word, an empty word after each call.
FAKE = """#!/bin/bash
printf '%s\\0' "$PWD" "$@" '' >>"$RECORD.${0##*/}"
case ${0##*/} in
  editsweep) cp "$2" "$RECORD.sweep" ;;
  scontrol) [ "$2" = hostnames ] && printf 'n0\\nn1\\n' || echo "NodeAddr=127.0.0.1" ;;
  python) ls "$RECORD".step.* | wc -l ;;
  srun) touch "$RECORD.step.$$"; cat >/dev/null; exec sleep 60 ;;
esac
"""
Ran = namedtuple("Ran", "folder words sweep calls")


@pytest.fixture
def job():
    """Makes a job of plain values, some of them replaced."""

    def made(**changes):
        values = {
            "name": "demo",
            "sweep_id": "0123456789abcdef" * 2,
            "sweep": "name: demo\n",
            "folder": "/shared/project",
            "out": "runs",
            "units": 40,
        }
        return Job(**{**values, **changes})

    return made


@pytest.fixture
def ran(tmp_path):
    """Runs a script: where and with what `editsweep` was called, its sweep, and other calls."""

    def run(script, folder=tmp_path, **variables):
        programs, record = tmp_path / "bin", tmp_path / "record"
        programs.mkdir(exist_ok=True)
        for name in PROGRAMS:
            (programs / name).write_text(FAKE)
            (programs / name).chmod(0o755)
        env = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RECORD": str(record),
            "SLURM_JOB_ID": str(os.getpid()),
            **variables,
        }
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        done = subprocess.run(
            ["bash", "-s"],
            input=script,
            env=env,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done
        calls = {
            name: [call.split("\0") for call in path.read_bytes().decode().split("\0\0")[:-1]]
            for name in PROGRAMS
            if (path := tmp_path / f"record.{name}").exists()
        }
        ((at, *words),) = calls["editsweep"]
        return Ran(at, words, (tmp_path / "record.sweep").read_bytes().decode(), calls)

    return run
