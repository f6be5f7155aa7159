"""Real Ray nodes on this machine, which come and go."""

import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

from editsweep.run.cluster import SHORT_TEMP, _fresh_settings, environment, ray_library

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
