"""Ray clusters: one of our own on this machine, or a running one that we join."""

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from editsweep.errors import ConfigError, WorkerError
from editsweep.run.layout import Layout, Machine
from editsweep.run.stop import own_handler

OBJECT_STORE_BYTES = 256 * 2**20
LOOPBACK = "127.0.0.1"
# The path of a socket has 107 characters at most; Ray and our folder's name take about 90.
LONGEST_TEMP = 16
SHORT_TEMP = Path("/tmp")


def ray_library() -> Any:
    """The module `ray`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--executor ray needs ray: pip install 'editsweep[ray]', or use --executor inline"
        ) from None
    return ray


def ray_metrics() -> Any:
    """The module `ray.util.metrics`.

    Raises:
        ConfigError: ray is not installed.
    """
    ray_library()
    from ray.util import metrics

    return metrics


def cluster_nodes(address: str) -> tuple[Machine, ...]:
    """What each node of a running cluster has, which is then joined.

    Raises:
        ConfigError: ray is not installed, or `address` is not `host:port` or `auto`.
        WorkerError: there is no cluster at `address`.
    """
    ray = ray_library()
    with joined(ray, address):
        return tuple(living_nodes(ray).values())


def cluster_machine(address: str) -> Machine:
    """The same of all nodes together.

    Raises:
        ConfigError: as `cluster_nodes`.
        WorkerError: as `cluster_nodes`.
    """
    nodes = cluster_nodes(address)
    return Machine(sum(node.cores for node in nodes), sum(node.gpus for node in nodes))


def living_nodes(ray: Any) -> dict[str, Machine]:
    """What each node has, by its id, in the cluster that we are part of."""
    return {
        node["NodeID"]: Machine(
            int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0))
        )
        for node in ray.nodes()
        if node["Alive"]
    }


def place_of(worker: Any, mark: Path) -> tuple[str, bool]:
    """The id of a worker's node, and whether its cache has the file `mark`; called in its actor."""
    node = ray_library().get_runtime_context().get_node_id()
    return str(node), (worker.cache / mark).exists()


@contextmanager
def joined(ray: Any, address: str) -> Iterator[None]:
    """Within the block we are part of the running cluster at `address`.

    Raises:
        ConfigError: `address` is not `host:port` or `auto`.
        WorkerError: there is no cluster at `address`.
    """
    _check_reachable(address)
    try:
        with own_handler():
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
def private_cluster(ray: Any, layout: Layout, metrics_port: int | None = None) -> Iterator[Path]:
    """Within the block there is a cluster of our own; gives its folder, which then goes.

    It is for this machine only, with a token that nobody else can read, and so is the folder. Its
    metrics, if asked for, anyone on this machine can read at `metrics_port`.

    Raises:
        ConfigError: `metrics_port` is taken.
        WorkerError: it does not start.
    """
    _check_free(metrics_port)
    folder = _temporary_folder()
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="ascii")
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_enable_metrics_collection": "0" if metrics_port is None else "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
    }
    try:
        with environment(settings), _fresh_settings(ray), _loopback_only(ray):
            try:
                with own_handler():
                    ray.init(
                        address="local",
                        num_cpus=layout.workers * layout.threads,
                        num_gpus=layout.whole_gpus,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level="error",
                        object_store_memory=OBJECT_STORE_BYTES,
                        _temp_dir=str(folder),
                        _node_ip_address=LOOPBACK,
                        _metrics_export_port=metrics_port,
                    )
            except Exception as error:
                raise WorkerError(f"Ray does not start on this machine: {error}") from error
            try:
                yield folder
            finally:
                ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_free(port: int | None) -> None:
    """Ray itself would start, then lose its node."""
    if port is None:
        return
    try:
        with socket.create_server((LOOPBACK, port)):
            pass
    except OSError as error:
        raise ConfigError(
            f"--metrics-port {port}: {error.strerror}; another run may have it, choose another"
        ) from None


@contextmanager
def _loopback_only(ray: Any) -> Iterator[None]:
    """Within the block a cluster may have the address 127.0.0.1, and then all of it listens there.

    Ray swaps that for an address that the network can reach, save where it thinks a cluster of
    several machines impossible. With any other address it would listen on all of the machine's.
    """
    constants = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


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
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Within the block these variables are set."""
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
