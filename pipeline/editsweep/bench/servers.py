"""Servers of our own for a measurement or a test, on this machine only, gone when it is over."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NOBODY = "nobody"  # PostgreSQL refuses to run as root


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, database: str, options: Sequence[str] = ()) -> Iterator[str]:
    """A real MLflow server over a database; its address. Artifacts and its log are in `folder`.

    Raises:
        OSError: it ended before it answered.
    """
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", *options]
    command += ["--port", str(port), "--artifacts-destination", str(folder / "artifacts")]
    settings = {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **settings}, stdout=log, stderr=log, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        _await(uri, process, folder / "log")
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(uri: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    while True:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None:
                raise OSError(f"the MLflow server ended: {log.read_text()[-2000:]}") from None
            time.sleep(0.3)


def has_postgres() -> bool:
    """Whether PostgreSQL's programs are here, where Debian puts them."""
    return bool(_programs())


@dataclass(frozen=True)
class Postgres:
    """A server that runs, and the URI of its database; `control` is pg_ctl's command line."""

    uri: str
    control: Sequence[str]
    start_options: Sequence[str]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # Its log would hold a pipe open for as long as it runs.
        _run([*self.control, *self.start_options, "start"], subprocess.DEVNULL)

    def stop(self, mode: str = "fast") -> None:
        """End it; with `immediate` at once, as if it had crashed."""
        _run([*self.control, "-m", mode, "stop"])


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of our own with a password.

    Raises:
        OSError: its programs are not here, or it did not start.
    """
    if not (found := _programs()):
        raise OSError("no PostgreSQL here (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="es-pg-"))
    password = folder / "password"
    password.write_text(secret := secrets.token_hex(8))
    user = ["runuser", "-u", _NOBODY, "--"] if os.getuid() == 0 else []
    if user:
        for path in (folder, password):
            shutil.chown(path, _NOBODY)
    port, data = free_port(), str(folder / "data")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder}"
    make = [str(found[-1]), "-D", data, "-U", "mlflow", "-A", "scram-sha-256", "-N"]
    control = [*user, str(found[-1].with_name("pg_ctl")), "-D", data, "-w"]
    try:
        _run([*user, *make, "--pwfile", str(password)])
        uri = f"postgresql+psycopg://mlflow:{secret}@127.0.0.1:{port}/postgres"
        server = Postgres(uri, control, ["-o", options, "-l", str(folder / "log")])
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> list[Path]:
    """Each version's `initdb`, the newest last."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return sorted(found, key=lambda path: float(path.parts[-3]))


def _run(command: Sequence[str], out: int = subprocess.PIPE) -> None:
    subprocess.run(command, check=True, stdout=out, stderr=out)
