"""Real Ray nodes on this machine, which come and go, and processes that are struck."""

import os
import secrets
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from editsweep.run.cluster import SHORT_TEMP, _fresh_settings, environment, ray_library
from editsweep.run.progress import Silent

HOST = "127.0.0.2"  # Ray swaps 127.0.0.1 for an address of the network


class Nodes:
    """Ray nodes on this machine, in a cluster with a token, whose head has no work of its own."""

    def __init__(self, temp):
        from ray.cluster_utils import Cluster

        config = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": config}
        self._plain = {"node_ip_address": HOST, "object_store_memory": 100 * 2**20}
        head |= {"temp_dir": str(temp), **self._plain}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address

    def add(self, settings=(), **has):
        """One more node, whose processes have `settings` in their environment."""
        with environment(dict(settings)):
            return self._cluster.add_node(**{"num_cpus": 1, **self._plain, **has})

    def remove(self, node):
        """As if its machine were gone."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self):
        """All that is left."""
        self._cluster.shutdown()


def below(word, pid=None):
    """Processes below `pid`, or below this one, whose command line has `word`."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


def ended(processes, seconds):
    """Whether these processes have ended, or do so within that time; nobody may fetch how."""

    def runs(process):
        with suppress(psutil.NoSuchProcess):
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return False

    deadline = time.monotonic() + seconds
    while any(map(runs, processes)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(map(runs, processes))


class Strike(Silent):
    """Sends `number` to one process below this one once so many edits, or steps, are done.

    Keeps which process it was and all that is shown.
    """

    def __init__(self, word, number=signal.SIGKILL, after=1):
        self._word, self._number, self._after = word, number, after
        self.struck, self.done, self.said = [], [], []

    def update(self, now):
        self.done.append(now.done)
        if now.done >= self._after and not self.struck:
            self.struck = below(self._word)[:1]
            for process in self.struck:
                os.kill(process.pid, self._number)

    def say(self, message):
        self.said.append(message)


@pytest.fixture(scope="session")
def processes():
    """`below`."""
    return below


@pytest.fixture(scope="session")
def have_ended():
    """`ended`."""
    return ended


@pytest.fixture(scope="session")
def strike():
    """`Strike`."""
    return Strike


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    ray = ray_library()
    token = tmp_path_factory.mktemp("token") / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    temp = Path(tempfile.mkdtemp(prefix="es-", dir=SHORT_TEMP))
    (temp / "ray").mkdir()  # Ray writes the cluster's address here and does not make the folder
    settings = {
        "RAY_TMPDIR": str(temp),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    with environment(settings), _fresh_settings(ray):
        made = Nodes(temp)
        try:
            yield made
        finally:
            made.close()
            shutil.rmtree(temp, ignore_errors=True)
