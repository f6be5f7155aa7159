"""A running sweep before a real Prometheus: what the dashboard and the alert rules ask has answers."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
import pytest
import yaml

from editsweep.errors import ConfigError
from editsweep.run.cluster import private_cluster, ray_library
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.layout import Layout
from editsweep.run.meters import GPU_MEMORY, GPU_MEMORY_TOTAL, METERS, Kind
from editsweep.run.sweep import parse_sweep

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
DASHBOARD = ROOT / "dashboards" / "grafana" / "editsweep.json"
PROMETHEUS = ROOT / "dashboards" / "prometheus"
# Far more than is done before the test has seen enough and stops it.
SWEEP = f"""
name: watched
models: [tiny-llama]
editors: [{{name: ft, steps: 5}}, {{name: rome, moment: identity, contexts: 2, steps: 5}}]
datasets: ["{EDITS}"]
seeds: {list(range(400))}
metrics: {{max_new_tokens: 2, generate: []}}
unit_size: 2
"""
RUN = "from editsweep.cli.main import main; main()"
needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus") or not shutil.which("promtool"),
    reason="needs prometheus and promtool (Debian's package prometheus)",
)


def queries():
    """Every expression of the dashboard, and what lets one choose a sweep."""
    found = json.loads(DASHBOARD.read_text())
    for panel in found["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$sweep", ".*").replace("$__rate_interval", "10s")
    for variable in found["templating"]["list"]:
        if variable["type"] == "query":
            yield re.fullmatch(r"label_values\((\w+), sweep\)", variable["query"]["query"])[1]


def inputs():
    """The alert rules' expressions, telling 0 or 1 in place of nothing when all is well."""
    for group in yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield re.sub(r"(?<= )([<>]=?)(?= )", r"\1 bool", rule["expr"])


ASKED = [*queries(), *inputs()]
# No machine without a GPU has these.
GPU_ONLY = {f"ray_{meter.name}" for meter in (GPU_MEMORY, GPU_MEMORY_TOTAL)}


def named(query):
    """The metrics in `query`, without what Prometheus adds to a histogram's."""
    histograms = [f"ray_{m.name}" for m in METERS.values() if m.kind is Kind.HISTOGRAM]
    parts = rf"({'|'.join(histograms)})_(bucket|count|sum)\b"
    return set(re.findall(r"\b[a-z]+_editsweep_\w+", re.sub(parts, r"\1", query)))


@pytest.mark.parametrize("query", ASKED)
def test_every_metric_that_is_asked_for_is_one_of_ours(query):
    assert named(query)
    assert named(query) <= {f"ray_{name}" for name in METERS}


def test_every_meter_is_asked_for():
    assert set().union(*map(named, ASKED)) == {f"ray_{name}" for name in METERS}


@needs_prometheus
@pytest.mark.parametrize(
    "order",
    [
        ("check", "config", PROMETHEUS / "prometheus.yaml"),
        ("test", "rules", ROOT / "tests/data/alerts.yaml"),
    ],
    ids=["config", "rules"],
)
def test_promtool_is_content(order):
    done = subprocess.run(
        ["promtool", *map(str, order)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """A Prometheus with the shipped configuration, save ports and intervals."""

    def __init__(self, folder, target):
        config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (job,) = config["scrape_configs"]
        job["static_configs"][0]["targets"] = [f"127.0.0.1:{target}"]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        shutil.copy(PROMETHEUS / "rules.yaml", folder)
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}/api/v1"
        self.log = folder / "prometheus.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=log,
            )

    def ask(self, path, **fields):
        query = urllib.parse.urlencode(fields)
        with urllib.request.urlopen(f"{self.url}/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def numbers(self, query):
        """What it answers now that is a finite number."""
        values = [float(row["value"][1]) for row in self.ask("query", query=query)["result"]]
        return [value for value in values if math.isfinite(value)]

    @property
    def answers(self):
        try:
            return bool(self.ask("status/buildinfo"))
        except OSError:
            return False


def until(is_so, seconds, log):
    """Wait for `is_so()`; what is in `log` tells why it does not come."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.5)


def ended(process):
    """End a process that the test started, whatever it does."""
    if process.poll() is None:
        process.kill()
    process.wait()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep under way with its metrics at `port`, and the file of what it says."""
    folder, port = tmp_path_factory.mktemp("watched"), free_port()
    (folder / "sweep.yaml").write_text(SWEEP)
    log = folder / "log"
    settings = {"EDITSWEEP_CACHE": str(folder / "cache"), "RAY_metrics_report_interval_ms": "1000"}
    order = "run sweep.yaml --out . --no-record --workers 1 --threads 1 --metrics-port"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *order.split(), str(port)],
            cwd=folder,
            env=os.environ | settings,
            stdout=out,
            stderr=out,
        )
    try:
        yield process, port, log
    finally:
        ended(process)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, sweep):
    server = Server(tmp_path_factory.mktemp("prometheus"), sweep[1])
    try:
        until(lambda: server.answers, 30, server.log)
        yield server
    finally:
        ended(server.process)


def is_answered(prometheus, query):
    return bool(prometheus.numbers(query) or named(query) & GPU_ONLY)


@needs_prometheus
def test_a_sweep_is_watched(sweep, prometheus, processes):
    """One story, for a sweep to watch is dear: it goes on, loses a worker, is seen, and is stopped."""
    process, _, log = sweep
    until(lambda: any(prometheus.numbers("ray_editsweep_edits_done_total > 1")), 120, log)
    assert [n for n in prometheus.numbers("ray_editsweep_worker_deaths_total") if n >= 1] == []
    (worker,) = processes("ray::Worker", process.pid)
    worker.kill()
    until(lambda: any(prometheus.numbers("ray_editsweep_worker_deaths_total == 1")), 60, log)

    left = list(ASKED)

    def all_answered():
        left[:] = [query for query in left if not is_answered(prometheus, query)]
        return not left

    until(all_answered, 90, log)
    assert prometheus.numbers("ray_editsweep_edits") == [8 * 2 * 400]
    assert prometheus.numbers("ray_editsweep_edits_failed_total") == [pytest.approx(0)]
    editors = prometheus.ask("label/editor/values")
    assert editors == ["ft", "rome"]
    rules = prometheus.ask("rules")["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} == {"ok"}


def test_nothing_listens_beyond_this_machine(sweep):
    process, _, log = sweep
    until(lambda: "/6400 edits" in log.read_text(), 60, log)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = {
        socket_.laddr.ip.removeprefix("::ffff:")
        for member in family
        for socket_ in member.net_connections("tcp")
        if socket_.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_no_label_has_what_is_edited_or_where(sweep):
    _, port, _ = sweep
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        lines = [line for line in answer.read().decode().splitlines() if "editsweep_" in line]
    labels = set(re.findall(r'[{,](\w+)="([^"]*)"', "\n".join(lines)))
    ours = {(name, value) for name, value in labels if name in {"sweep", "editor"}}
    assert ours <= {("sweep", "watched"), ("editor", "ft"), ("editor", "rome")}
    assert not any(str(ROOT) in value or "edits.jsonl" in value for _, value in labels)


def test_a_stopped_sweep_takes_its_port_with_it(sweep):
    process, port, log = sweep
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 75, log.read_text()[-2000:]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_port_that_is_taken_is_said_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        cluster = private_cluster(ray_library(), Layout(1, 1), port)
        with pytest.raises(ConfigError, match=f"--metrics-port {port}: .*choose another"), cluster:
            pass


@pytest.mark.parametrize(
    "chosen",
    [RunOptions("inline", metrics_port=9464), RunOptions(address="auto", metrics_port=9464)],
    ids=["inline", "joined"],
)
def test_a_port_of_its_own_is_only_for_a_cluster_of_its_own(tmp_path, chosen):
    with pytest.raises(ConfigError, match="--metrics-port"):
        run_sweep(parse_sweep(SWEEP, ["seeds=[0]"]), tmp_path / "t", chosen)
