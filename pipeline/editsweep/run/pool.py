"""The executor over Ray: plain supervised actors, one task in flight each. The only file with ray.

Actors are not restarted by Ray (`max_restarts=0`): the driver sees every death, replaces the
worker, and the queue decides about the task. Nothing durable lies in the cluster.
"""

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from editsweep.errors import ConfigError, WorkerError
from editsweep.run.layout import Layout, Machine
from editsweep.run.tasks import Died, Event, Failure, Outcome, Task
from editsweep.run.worker import Worker

OBJECT_STORE_BYTES = 256 * 2**20
# Ray swaps 127.0.0.1 for an address that the network can reach; this one it leaves alone.
LOOPBACK = "127.0.0.2"
# The path of a socket has 107 characters at most; Ray and our folder's name take about 90.
LONGEST_TEMP = 16
SHORT_TEMP = Path("/tmp")
GONE = "the worker process died"


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--executor ray needs ray: pip install 'editsweep[ray]', or use --executor inline"
        ) from None
    return ray


def cluster_machine(address: str) -> Machine:
    """What a running cluster has, which `RayPool` then joins.

    Raises:
        ConfigError: ray is not installed, or `address` is not `host:port` or `auto`.
        WorkerError: there is no cluster at `address`.
    """
    ray = _ray()
    with _joined(ray, address):
        has = ray.cluster_resources()
    return Machine(int(has.get("CPU", 0)), int(has.get("GPU", 0)))


class RayPool:
    """Workers as Ray actors, in a cluster of their own on this machine or in a running one."""

    def __init__(
        self, layout: Layout, cache: Path | None = None, address: str | None = None
    ) -> None:
        """Workers as `layout` says, with assets under `cache`; `address` names a running cluster."""
        self._layout = layout
        self._cache = cache
        self._address = address
        self._held = ExitStack()
        self._actors: dict[int, Any] = {}
        self._flying: dict[Any, tuple[int, str]] = {}

    def __enter__(self) -> Self:
        """Start or join the cluster, and the actors in it."""
        try:
            self._ray = _ray()
            if self._address is None:
                self._held.enter_context(_private_cluster(self._ray, self._layout))
            else:
                self._held.enter_context(_joined(self._ray, self._address))
            self._class = self._ray.remote(
                num_cpus=self._layout.threads,
                num_gpus=self._layout.gpus,
                max_restarts=0,
                max_task_retries=0,
            )(Worker)
            for index in range(self._layout.workers):
                self._spawn(index)
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End our actors, and the cluster if it is ours."""
        for actor in self._actors.values():
            self._ray.kill(actor, no_restart=True)
        self._actors.clear()
        self._held.close()

    def idle(self) -> list[int]:
        """The workers without a task."""
        busy = {worker for worker, _ in self._flying.values()}
        return [worker for worker in self._actors if worker not in busy]

    def submit(self, worker: int, task: Task) -> None:
        """Send a task to an idle worker."""
        reference = self._actors[worker].run.remote(task)
        self._flying[reference] = (worker, task.task_id)

    def wait(self, seconds: float) -> list[Event]:
        """What is ready, in the order it was sent."""
        if not self._flying:
            return []
        waiting = list(self._flying)
        self._ray.wait(waiting, num_returns=1, timeout=seconds)
        ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self._event(reference) for reference in ready]

    def _event(self, reference: Any) -> Event:
        worker, task_id = self._flying.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            self._spawn(worker)
            return Died(task_id, f"{GONE}: {_first_line(error)}")
        except self._ray.exceptions.RayError as error:
            return Outcome(task_id, {}, 0.0, "", Failure.of(error))
        return outcome

    def _spawn(self, worker: int) -> None:
        self._actors[worker] = self._class.remote(self._layout.threads, self._cache)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except Exception as error:  # ray raises ConnectionError, RuntimeError, ValueError, RpcError
        raise WorkerError(f"no Ray cluster at {address!r}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "/" in host or not host or not port.isdigit():
        raise ConfigError(f"--address {address!r}: write host:port, or auto for this machine's")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise WorkerError(f"no Ray cluster at {address!r}: {error}") from error


@contextmanager
def _private_cluster(ray: Any, layout: Layout) -> Iterator[None]:
    """A cluster of our own for this machine only, with a token that nobody else can read."""
    folder = _temporary_folder()
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="ascii")
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    try:
        with _environment(settings), _fresh_settings(ray):
            try:
                ray.init(
                    address="local",
                    num_cpus=layout.workers * layout.threads,
                    num_gpus=layout.workers * layout.gpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="error",
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=str(folder),
                    _node_ip_address=LOOPBACK,
                )
            except Exception as error:
                raise WorkerError(f"Ray does not start on this machine: {error}") from error
            try:
                yield
            finally:
                ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder() -> Path:
    """A new folder that only this user can read; those of drivers that were killed are removed."""
    usual = Path(tempfile.gettempdir())
    parent = usual if len(str(usual)) <= LONGEST_TEMP else SHORT_TEMP
    for left in parent.glob("editsweep-*-*"):
        pid = left.name.split("-")[1]
        is_ours = left.is_dir() and not left.is_symlink() and left.stat().st_uid == os.getuid()
        if is_ours and pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"editsweep-{os.getpid()}-", dir=parent))


@contextmanager
def _fresh_settings(ray: Any) -> Iterator[None]:
    """Ray reads its environment when it is imported, and keeps tokens: let it look again."""

    def look() -> None:
        ray._raylet.Config.initialize("")
        ray._raylet.AuthenticationTokenLoader.instance().reset_cache()

    look()
    try:
        yield
    finally:
        os.environ["RAY_AUTH_MODE"] = "disabled"
        look()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
