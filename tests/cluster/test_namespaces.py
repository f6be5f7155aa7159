"""Two machines as network namespaces, each with its address and cache: results cross a network."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from editsweep.run.cluster import SHORT_TEMP, environment
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
RAY = Path(sys.executable).with_name("ray")
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: rome, moment: "world:train", contexts: 2, steps: 3}}]
datasets: ["{EDITS}"]
seeds: [0, 1]
metrics: {{max_new_tokens: 3}}
unit_size: 1
"""
DRIVER = """
import sys
from pathlib import Path
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
text, folder, address = sys.argv[1:]
options = RunOptions(threads=1, record=False, address=address)
sys.exit(run_sweep(parse_sweep(text), Path(folder), options).exit_code)
"""


def ip(*words):
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


class Machines:
    """Two namespaces with a cable between them; `start` and `kill` know them as 0 and 1."""

    def __init__(self, folder):
        tag = secrets.token_hex(2)
        self.folder, self.names = folder, [f"es{tag}{i}" for i in (0, 1)]
        self.links = [f"ve{tag}{i}" for i in (0, 1)]
        third = secrets.randbelow(250)
        self.addresses = [f"10.213.{third}.{i + 1}" for i in (0, 1)]
        self.started = []
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        self.settings = {
            "PYTHONPATH": str(ROOT / "pipeline"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "3",
        }

    def connect(self):
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", self.links[0], "type", "veth", "peer", "name", self.links[1])
        for name, link, address in zip(self.names, self.links, self.addresses, strict=True):
            ip("link", "set", link, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")

    def start(self, place, cache, *command):
        """A command on one of them."""
        with (self.folder / f"log{len(self.started)}").open("wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.names[place], *map(str, command)],
                env={**os.environ, **self.settings, "EDITSWEEP_CACHE": str(self.folder / cache)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def received(self, place):
        """Bytes that came over the cable."""
        shown = json.loads(ip("-j", "-s", "-n", self.names[place], "link", "show"))
        return next(x["stats64"]["rx"]["bytes"] for x in shown if x["ifname"] in self.links)

    def kill(self, place):
        """All that runs on one of them, at once."""
        for pid in ip("netns", "pids", self.names[place]).split():
            os.kill(int(pid), signal.SIGKILL)

    def close(self):
        for place, name in enumerate(self.names):
            if name in ip("netns", "list"):
                self.kill(place)
                ip("netns", "del", name)
        for process in self.started:
            process.wait(30)


@pytest.fixture
def machines():
    if os.getuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces want root and ip (Debian: apt-get install iproute2)")
    folder = Path(tempfile.mkdtemp(prefix="es-", dir=SHORT_TEMP))
    made = Machines(folder)
    try:
        try:
            made.connect()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr}")
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def ray(machines, place, cache, *words):
    """A Ray node, once it runs."""
    plain = ["--num-cpus=1", "--disable-usage-stats", "--object-store-memory=100000000", "--block"]
    address = f"--node-ip-address={machines.addresses[place]}"
    log = machines.folder / f"log{len(machines.started)}"
    node = machines.start(place, cache, RAY, "start", address, *plain, *words)
    while "Ray runtime started" not in log.read_text():
        assert node.poll() is None, log.read_text()
        time.sleep(0.2)


def makers(cache):
    found = cache.glob("assets/*/meta.json")
    return {path.parent.name: json.loads(path.read_text())["maker"] for path in found}


def committed(folder):
    manifest = folder / "manifest.jsonl"
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


@pytest.mark.parametrize("is_lost", [False, True], ids=["whole", "one is lost"])
def test_a_sweep_over_two_machines(tmp_path, machines, is_lost, results):
    inline, folder = tmp_path / "i" / "t", tmp_path / "t"
    with environment({"EDITSWEEP_CACHE": str(tmp_path / "inline")}):
        options = RunOptions("inline", threads=1, record=False)
        run_sweep(parse_sweep(SWEEP), inline, options)
    address = f"{machines.addresses[0]}:6399"
    sessions = f"--temp-dir={machines.folder / 'r'}"
    ray(machines, 0, "a", "--head", "--port=6399", "--include-dashboard=false", sessions)
    ray(machines, 1, "b", f"--address={address}")
    before = machines.received(0)
    driver = machines.start(0, "home", sys.executable, "-c", DRIVER, SWEEP, folder, address)
    log = machines.folder / "log2"
    if is_lost:
        while not (committed(folder) >= 4 and makers(machines.folder / "b")):
            assert driver.poll() is None, log.read_text()
            time.sleep(0.05)
        machines.kill(1)
    assert driver.wait(240) == 0, log.read_text()
    assert results(folder) == results(inline)
    assert (folder / "leaderboard.csv").read_bytes() == (inline / "leaderboard.csv").read_bytes()
    assert committed(folder) == len(SweepStore(folder).committed()) == 32
    events = [json.loads(x) for x in (folder / "progress.jsonl").read_text().splitlines()]
    assert {e["kind"] for e in events if e["event"] == "worker_died"} <= {"node_lost"}
    # Whoever made the assets, both machines and the driver have the same ones.
    made = makers(machines.folder / "home")
    assert made
    assert makers(machines.folder / "a") == made
    if is_lost:
        assert makers(machines.folder / "b").items() <= made.items()
    else:
        assert makers(machines.folder / "b") == made
        parts = sum(path.stat().st_size for path in (folder / "parts").rglob("*.arrow"))
        assert machines.received(0) - before > parts / 4
