"""A real Ray head on this machine, with its dashboard and a token: submit, look, cancel, go on."""

import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from editsweep.cli.main import main
from editsweep.run.cluster import SHORT_TEMP, _fresh_settings, environment
from editsweep.run.status import read_status

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(find_spec("aiohttp_cors") is None, reason="needs ray[default]"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of Ray
]

ROOT = Path(__file__).parents[2]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
HOST = "127.0.0.2"  # Ray swaps 127.0.0.1 for an address of the network
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none]
datasets: [{{name: "{EDITS}", limit: 2}}]
metrics: {{max_new_tokens: 2, generate: []}}
"""
LONG = f"""
name: long
models: [tiny-llama]
editors: [{{name: ft, steps: 60}}]
datasets: ["{EDITS}"]
seeds: [{", ".join(map(str, range(40)))}]
metrics: {{max_new_tokens: 2, generate: []}}
unit_size: 1
"""
SECONDS = 120


def free_ports(count):
    held = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The dashboard of a head that lives as long as this module."""
    home = tmp_path_factory.mktemp("home")
    token = home / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HOME": str(home),
        "EDITSWEEP_CACHE": str(home / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "pipeline"),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }
    port, dashboard, agent, client = free_ports(4)
    temp = Path(tempfile.mkdtemp(prefix="es-", dir=SHORT_TEMP))
    options = {
        "node-ip-address": HOST,
        "port": port,
        "dashboard-host": HOST,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "ray-client-server-port": client,
        "include-dashboard": "true",
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": 2,
        "object-store-memory": 80 * 2**20,
        "temp-dir": temp,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += ["--disable-usage-stats", *(f"--{key}={value}" for key, value in options.items())]
    with (home / "log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        head = subprocess.Popen(
            command,
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        patch.chdir(home)
        import ray

        try:
            with environment(settings), _fresh_settings(ray):
                wait_for(lambda: _listens(dashboard), "the dashboard")
                yield f"http://{HOST}:{dashboard}"
        finally:
            end(head)
            shutil.rmtree(temp, ignore_errors=True)


def end(head):
    """End the head and all that it started: they are one session."""
    head.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        head.wait(20)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            session = int(stat.read_text().rpartition(")")[2].split()[3])
        except OSError:
            continue
        if session == head.pid:
            os.kill(int(stat.parent.name), signal.SIGKILL)
    head.wait()


def wait_for(is_so, what):
    deadline = time.monotonic() + SECONDS
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.3)
    return found


def _listens(port):
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def editsweep(*args, code=0):
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("sys.argv", ["editsweep", *map(str, args)])
        try:
            main()
            found = 0
        except SystemExit as ended:
            found = ended.code or 0
    assert found == code, err.getvalue()
    return out.getvalue() if code == 0 else err.getvalue()


def submitted(path, out, address):
    options = ("--to", "ray", "--with", f"address={address}", "--with", "workers=1", "--json")
    return json.loads(editsweep("submit", path, "--out", out, *options))


def status(job_id, address):
    return json.loads(editsweep("job", "status", job_id, "--address", address, "--json"))["status"]


def test_a_sweep_is_submitted_once_and_its_results_are_complete(tmp_path, address):
    path, out = tmp_path / "t.yaml", tmp_path / "runs"
    path.write_text(SWEEP)
    first = submitted(path, out, address)
    again = submitted(path, out, address)
    assert (first["already"], again["already"]) == (False, True)
    assert first["job_id"] == again["job_id"] == f"t-{first['sweep_id'][:12]}"
    ended = wait_for(lambda: {status(first["job_id"], address)} - {"PENDING", "RUNNING"}, "its end")
    said = editsweep("job", "logs", first["job_id"], "--address", address)
    assert ended == {"SUCCEEDED"}, said
    assert "2 edits, 0 failed" in said
    assert read_status(out / "t")["state"] == "complete"
    assert submitted(path, out, address)["status"] == "SUCCEEDED"
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert token not in said
    refused = editsweep("job", "status", "nobody", "--address", address, code=1)
    assert "does not exist" in refused


def test_a_cancelled_job_keeps_what_it_did_and_goes_on(tmp_path, address):
    path, out = tmp_path / "long.yaml", tmp_path / "runs"
    path.write_text(LONG)
    first = submitted(path, out, address)
    manifest = out / "long" / "manifest.jsonl"
    wait_for(lambda: manifest.exists() and manifest.stat().st_size, "the first unit")
    assert "asked to end" in editsweep("job", "cancel", first["job_id"], "--address", address)
    wait_for(lambda: status(first["job_id"], address) == "STOPPED", "its end")
    found = read_status(out / "long")
    assert 0 < found["units_done"] < found["units"]
    assert found["last_event"]["event"] == "interrupted"
    second = submitted(path, out, address)
    assert (second["job_id"], second["already"]) == (f"{first['job_id']}-2", False)
    assert "asked to end" in editsweep("job", "cancel", second["job_id"], "--address", address)


def test_only_our_own_jobs_are_cancelled(address):
    from ray.job_submission import JobSubmissionClient

    other = JobSubmissionClient(address).submit_job(entrypoint="sleep 100")
    said = editsweep("job", "cancel", other, "--address", address, code=2)
    assert "was not submitted by editsweep" in said
    assert status(other, address) in ("PENDING", "RUNNING")


def test_nobody_gets_in_without_the_token(address, monkeypatch):
    import ray

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with _fresh_settings(ray):
        said = editsweep("job", "status", "x", "--address", address, code=1)
    assert "Missing authentication token" in said
