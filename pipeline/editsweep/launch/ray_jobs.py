"""Ray Jobs: a sweep as a job of a running Ray cluster, which its driver joins.

What travels is a folder with the sweep file. Data, results and the installation are the cluster's:
the job starts in the folder from which it was submitted, or in the one that is named.
"""

import ipaddress
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from editsweep.errors import ConfigError, EditSweepError, WorkerError
from editsweep.launch.job import (
    SWEEP_FILE,
    Job,
    Submitted,
    as_yaml,
    at_least,
    quoted,
    share_options,
)

DASHBOARD = "http://127.0.0.1:8265"
DRAIN_SECONDS = 60
OURS = "editsweep"
ALIVE = ("PENDING", "RUNNING")
DONE = "SUCCEEDED"


@dataclass(frozen=True)
class RayJobs:
    """A job of the Ray cluster whose dashboard is at `address`.

    `folder` is where the job starts, by default the folder of this command; the head must have it.
    `workers` and `threads` are as in `run`. `open` allows a cluster on the network without a token.
    """

    name: ClassVar[str] = "ray"
    address: str = DASHBOARD
    folder: str = ""
    workers: int | None = None
    threads: int | None = None
    open: bool = False

    def __post_init__(self) -> None:
        """Refuse an address that is none, and numbers below 1."""
        _host(self.address)
        at_least("workers", self.workers, 1)
        at_least("threads", self.threads, 1)

    def render(self, job: Job) -> str:
        """The request as YAML, with the file that goes along.

        Raises:
            ConfigError: a port of metrics is asked of a cluster that has one already.
        """
        request = {
            "submission_id": job.job_id,
            **self._request(job),
            "working_dir": {SWEEP_FILE: job.sweep},
        }
        return as_yaml(request)

    def submit(self, job: Job) -> Submitted:
        """Submit it, unless the same sweep is there, waits, runs or is done.

        After a job that failed or was stopped the next one goes on, as the same id with a number.

        Raises:
            ConfigError: as `render`; ray is not installed, or the cluster would be open to
                everybody.
            WorkerError: there is no cluster, or it does not take the job.
        """
        host = _host(self.address)
        if not (self.open or _is_loopback(host) or os.environ.get("RAY_AUTH_MODE") == "token"):
            raise ConfigError(
                f"others can reach {self.address}, and no token is asked for: set RAY_AUTH_MODE=token "
                "and RAY_AUTH_TOKEN_PATH as on the cluster, or allow it, --with open=true"
            )
        client = _client(self.address)
        with _asking(self.address):
            known = {info.submission_id: str(info.status.value) for info in client.list_jobs()}
            job_id, attempt = job.job_id, 1
            while known.get(job_id, DONE) not in (*ALIVE, DONE):
                attempt += 1
                job_id = f"{job.job_id}-{attempt}"
            follow = tuple(
                f"editsweep job {word} {job_id} --address {self.address}"
                for word in ("status", "logs", "cancel")
            )
            if job_id in known:
                return Submitted(job_id, known[job_id], already=True, follow=follow)
            with tempfile.TemporaryDirectory(prefix="editsweep-") as folder:
                Path(folder, SWEEP_FILE).write_text(job.sweep, encoding="utf-8")
                request = self._request(job)
                request["runtime_env"] = {**request["runtime_env"], "working_dir": folder}
                client.submit_job(submission_id=job_id, **request)
            return Submitted(job_id, str(client.get_job_status(job_id).value), follow=follow)

    def _request(self, job: Job) -> dict[str, Any]:
        if job.flags.metrics_port is not None:
            raise ConfigError(
                "--metrics-port: a running cluster has a port of its own, which `ray start "
                "--metrics-export-port` sets; leave it out"
            )
        command = ["editsweep", "run"]
        options = ["--out", job.out, "--address", "auto"]
        share = (*share_options(self.workers, self.threads), *job.flags.words())
        folder = quoted([self.folder or job.folder])
        return {
            "entrypoint": (
                f'sweep=$PWD/{SWEEP_FILE} && cd {folder} && exec {quoted(command)} "$sweep" '
                f"{quoted((*options, *share))}"
            ),
            "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(DRAIN_SECONDS)}},
            "metadata": {OURS: job.sweep_id, "name": job.name},
        }


def job_status(job_id: str, address: str) -> dict[str, Any]:
    """Where a job stands, as plain JSON: id, status, message, sweep, exit code of its driver.

    Raises:
        ConfigError: ray is not installed, or `address` is none.
        WorkerError: there is no cluster or no such job.
    """
    client = _client(address)
    with _asking(address):
        info = client.get_job_info(job_id)
    return {
        "job_id": job_id,
        "status": str(info.status.value),
        "message": info.message,
        "sweep_id": (info.metadata or {}).get(OURS),
        "exit_code": info.driver_exit_code,
    }


def job_logs(job_id: str, address: str) -> str:
    """What the job has printed so far.

    Raises:
        ConfigError: ray is not installed, or `address` is none.
        WorkerError: there is no cluster or no such job.
    """
    client = _client(address)
    with _asking(address):
        return str(client.get_job_logs(job_id))


def cancel_job(job_id: str, address: str) -> bool:
    """Ask a job of ours to end; what is in flight may still be kept. False if it had ended.

    Raises:
        ConfigError: the job is not ours, ray is not installed, or `address` is none.
        WorkerError: there is no cluster or no such job.
    """
    client = _client(address)
    with _asking(address):
        if OURS not in (client.get_job_info(job_id).metadata or {}):
            raise ConfigError(f"job {job_id!r} was not submitted by editsweep: it is left alone")
        return bool(client.stop_job(job_id))


def _client(address: str) -> Any:
    """A client of the Jobs API; a token is taken from where Ray takes it (`RAY_AUTH_...`)."""
    _host(address)
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise ConfigError("Ray Jobs need ray: pip install 'editsweep[ray]'") from None
    with _asking(address):
        return JobSubmissionClient(address)


@contextmanager
def _asking(address: str) -> Iterator[None]:
    """Ray's many errors as ours, in one line."""
    try:
        yield
    except EditSweepError:
        raise
    except Exception as error:  # ray raises RuntimeError, ConnectionError, AuthenticationError, ...
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WorkerError(f"the Ray cluster at {address}: {said}") from error


def _host(address: str) -> str:
    """The host of a dashboard's address."""
    parts = urlsplit(address)
    try:
        is_right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or parts.username or parts.password:
        raise ConfigError(f"address {address!r}: write http://host:port, e.g. {DASHBOARD}")
    host = str(parts.hostname)
    if host in ("0.0.0.0", "::"):  # noqa: S104  (it is refused)
        raise ConfigError(f"address {address!r}: {host} is where servers listen; write the host")
    return host


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
