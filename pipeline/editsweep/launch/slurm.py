"""Slurm: an sbatch script for one node or several, whole or shared, and for arrays of seeds.

On one node `run` makes its own private cluster. On several, the script starts a head and workers as
steps of the job, with a token that only this job knows, and a port that follows from the job's id.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from editsweep.core.names import safe_name
from editsweep.errors import ConfigError, WorkerError
from editsweep.launch.job import Job, Submitted, at_least, quoted, share_options, spread
from editsweep.run.layout import Machine

_BODY = Path(__file__).with_name("slurm.sh")
# No space, quote or line break: Slurm reads these itself, before any shell.
_WORD = re.compile(r"[A-Za-z0-9._@:/,&|*+=()\[\]-]*")
_MEMORY = re.compile(r"(\d+[KMGT]?)?")
_TIME = re.compile(r"(\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2})?")


@dataclass(frozen=True)
class Slurm:
    """An sbatch job; what is empty or None is left to Slurm.

    `cpus`, `gpus` and `memory` are of each node, `exclusive` takes whole nodes. `seeds` makes an
    array with a sweep of its own for each, `NAME-seed-SEED`. `bin` is the folder of `editsweep`,
    `ray` and `python` on the nodes. `warn` is how many seconds before the end of its time the sweep
    is asked to stop, `patience` how many the nodes may take to join.
    """

    name: ClassVar[str] = "slurm"
    nodes: int = 1
    cpus: int | None = None
    gpus: int = 0
    memory: str = ""
    time: str = ""
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    exclusive: bool = False
    seeds: tuple[int, ...] = ()
    workers: int | None = None
    threads: int | None = None
    bin: str = ""
    warn: int = 120
    patience: int = 300

    def __post_init__(self) -> None:
        """Refuse what Slurm would misread."""
        for name in ("nodes", "cpus", "workers", "threads", "warn", "patience"):
            at_least(name, getattr(self, name), 1)
        at_least("gpus", self.gpus, 0)
        for name in ("partition", "account", "qos", "constraint"):
            if not _WORD.fullmatch(getattr(self, name)):
                raise ConfigError(f"{name} {getattr(self, name)!r}: no spaces, quotes or controls")
        if not _MEMORY.fullmatch(self.memory):
            raise ConfigError(f"memory {self.memory!r}: write a number with K, M, G or T, e.g. 16G")
        if not _TIME.fullmatch(self.time):
            raise ConfigError(
                f"time {self.time!r}: write e.g. 90 (minutes), 12:00:00 or 2-00:00:00"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds {list(self.seeds)}: one stands twice")
        if self.nodes > 1 and self.cpus is None:
            raise ConfigError("cpus: say how many cores each node has for this, e.g. cpus=16")

    def render(self, job: Job) -> str:
        """The sbatch script, whole: the sweep stands in it.

        Raises:
            ConfigError: more workers than the nodes hold, a seed's sweep cannot be a folder, or
                jobs that may share a node would want the same port of metrics.
        """
        if self.seeds and job.flags.metrics_port and not self.exclusive:
            raise ConfigError(
                f"--metrics-port {job.flags.metrics_port}: jobs of an array may share a node and "
                "would want the same port; leave it out, or add --with exclusive=true"
            )
        for seed in self.seeds:
            safe_name("sweep name", f"{job.name}-seed-{seed}")
        directives = "".join(f"#SBATCH --{line}\n" for line in self._directives(job))
        values = {
            "folder": shlex.quote(job.folder),
            "bin": shlex.quote(self.bin),
            "name": shlex.quote(job.name),
            "out": shlex.quote(job.out),
            "nodes": self.nodes,
            "cpus": self.cpus or 1,
            "gpus": self.gpus,
            "patience": self.patience,
            "seeds": f"({' '.join(map(str, self.seeds))})",
            "metrics": job.flags.metrics_port or "",
            "options": f"({quoted((*self._share(job), *job.flags.words(self.nodes == 1)))})",
            "sweep": shlex.quote(job.sweep),
        }
        assigned = "".join(f"{name}={value}\n" for name, value in values.items())
        return f"#!/bin/bash\n{directives}\n{assigned}\n{_BODY.read_text(encoding='utf-8')}"

    def submit(self, job: Job) -> Submitted:
        """Hand the script to sbatch, with the programs of this installation first on PATH.

        Raises:
            ConfigError: there is no sbatch here.
            WorkerError: Slurm does not take the job.
        """
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        try:
            done = subprocess.run(
                ["sbatch", "--parsable"],
                input=self.render(job),
                env={**os.environ, "PATH": path},
                cwd=job.folder,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise ConfigError(
                "there is no sbatch here: submit on a machine of the cluster, or write the script "
                "with --dry-run and take it there"
            ) from None
        if done.returncode:
            raise WorkerError(f"Slurm does not take the job: {done.stderr.strip()}")
        number = done.stdout.strip().partition(";")[0]
        log = _log(job, self.seeds).replace("%j", number).replace("%A", number)
        follow = (f"squeue --job {number}", f"tail -F {log}", f"scancel {number}")
        return Submitted(number, "submitted", follow=follow)

    def _directives(self, job: Job) -> Iterator[str]:
        yield f"job-name={job.job_id}"
        yield f"output={_log(job, self.seeds)}"
        yield "open-mode=append"
        yield f"nodes={self.nodes}"
        yield "ntasks-per-node=1"
        if self.exclusive:
            yield "exclusive"
        if self.cpus is not None:
            yield f"cpus-per-task={self.cpus}"
        if self.gpus:
            yield f"gpus-per-node={self.gpus}"
        for option, value in (
            ("mem", self.memory),
            ("time", self.time),
            ("partition", self.partition),
            ("account", self.account),
            ("qos", self.qos),
            ("constraint", self.constraint),
        ):
            if value:
                yield f"{option}={value}"
        if self.seeds:
            yield f"array=0-{len(self.seeds) - 1}"
        if self.nodes > 1:
            yield "no-kill"  # a lost node costs what was in flight on it
        yield f"signal=B:USR1@{self.warn}"
        yield "requeue"

    def _share(self, job: Job) -> Sequence[str]:
        """Workers and threads, so that no worker is wider than a node."""
        if self.exclusive and self.cpus is None:
            return share_options(self.workers, self.threads)
        machine = Machine(self.cpus or 1, self.gpus)
        return spread(self.nodes, machine, job, self.workers, self.threads)


def _log(job: Job, seeds: Sequence[int]) -> str:
    return f"{job.job_id}-{'%A_%a' if seeds else '%j'}.out"
