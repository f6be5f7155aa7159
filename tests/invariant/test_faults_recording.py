"""MLflow down, slow, refusing, dying in mid-record, and a recorder killed in mid-record.

A sweep's own tables never change by it, no run looks finished that is not, and recording again ends
with one run a cell, equal to an undisturbed recording's. EDITSWEEP_TEST_SEED strikes other calls.
"""

import hashlib
import http.client
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest

from editsweep.bench.servers import mlflow_server
from editsweep.run import publish
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("EDITSWEEP_TEST_SEED", "0"))
KILLS = 3
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: ft, steps: 1}}]
datasets: [{{name: "{ROOT / "tests" / "data" / "edits.jsonl"}", limit: 2}}]
metrics: {{max_new_tokens: 2}}
"""


class Proxy:
    """Hands calls on to a server, and does to each what `strike` says of its number, from 1.

    `500` and `429` are answers of its own; `"before"` hangs up and `"after"` does so once the
    server has done the call; `"slow"` does it, and answers only when all is over.
    """

    def __init__(self, uri):
        self.target = urlsplit(uri).netloc
        self.strike = lambda number: None
        self.calls = 0
        self._one = threading.Lock()
        self._over = threading.Event()
        handler = type("Handler", (Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = False
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def next(self):
        with self._one:
            self.calls += 1
            return self.strike(self.calls)

    def wait(self):
        self._over.wait()

    def close(self):
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        struck = self.proxy.next()
        if struck in (500, 429):
            again = {"Retry-After": "1"} if struck == 429 else {}
            self.answer(struck, b"no", again)
        elif struck != "before":
            status, said, headers = self.handed_on(body)
            if struck == "slow":
                self.proxy.wait()
            elif struck != "after":
                self.answer(status, said, headers)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def handed_on(self, body):
        there = http.client.HTTPConnection(self.proxy.target, timeout=30)
        keep = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        there.request(self.command, self.path, body, keep)
        answer = there.getresponse()
        said = answer.read()
        there.close()
        return answer.status, said, {"Content-Type": answer.headers.get("Content-Type") or "text"}

    def answer(self, status, said, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(said))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


# Reads orders and records each in a fork of itself, which is killed at the call `at`, before or
# after the server has done it; says how it ended.
RECORDER = """
import json, os, signal, sys, threading
from pathlib import Path
import mlflow.tracking, polars, requests
from editsweep.run import publish

def killed(at, after):
    real, calls, one = requests.Session.send, [], threading.Lock()
    def send(*args, **more):
        with one:
            calls.append(None)
            here = len(calls) == at
        if here and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*args, **more)
        finally:
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
    requests.Session.send = send

for order in sys.stdin:
    folder, uri, experiment, at, after = json.loads(order)
    child = os.fork()
    if child == 0:
        code = 99
        try:
            killed(at, after)
            code = int(not publish.record(Path(folder), uri, experiment).recorded)
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, f"sqlite:///{folder}/server.db", ["--workers", "1"]) as uri:
        yield uri


@pytest.fixture
def proxy(server):
    made = Proxy(server)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def recorder():
    """Records a sweep and is killed at a call; how it ended."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline"), "OMP_NUM_THREADS": "1"}
    command, pipe = [sys.executable, "-W", "ignore", "-c", RECORDER], subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as process:

        def order(folder, uri, experiment, at, after):
            process.stdin.write(json.dumps([str(folder), uri, experiment, at, after]) + "\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield order
        process.stdin.close()


@pytest.fixture(scope="module")
def whole(server, tmp_path_factory):
    """A sweep recorded undisturbed: its folder, its runs, and how many calls recording takes."""
    folder = tmp_path_factory.mktemp("whole") / "t"
    assert run(folder, server, "whole").record_error == ""
    counting = Proxy(server)
    try:
        assert publish.record(folder, counting.uri, "counted").reason == ""
    finally:
        counting.close()
    made = runs(server, "whole")
    assert {run["status"] for run in made.values()} == {"FINISHED"}
    assert len(made) == 3
    return folder, made, counting.calls


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")


def run(folder, uri, experiment):
    cache = folder.parent / "cache"
    options = RunOptions("inline", threads=1, cache=cache, tracking_uri=uri, experiment=experiment)
    return run_sweep(parse_sweep(SWEEP), folder, options)


def files(folder):
    """Every file of a sweep's folder by what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def runs(uri, experiment):
    """All that MLflow holds of an experiment, by the runs' names; a second run would be an error."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    place = client.get_experiment_by_name(experiment)
    made = client.search_runs([place.experiment_id]) if place else []
    names = {run.info.run_id: run.info.run_name for run in made}
    assert len(set(names.values())) == len(names), names
    return {run.info.run_name: _held(client, run, names) for run in made}


def _held(client, run, names):
    run_id, tags = run.info.run_id, dict(run.data.tags)
    above = tags.pop("mlflow.parentRunId", None)
    one = min(run.data.metrics, default=None)  # a call each
    history = client.get_metric_history(run_id, one) if one else []
    kept = {
        (entry.path, entry.file_size)
        for folder in ("", "results", "preview")
        for entry in client.list_artifacts(run_id, folder)
    }
    return {
        "status": run.info.status,
        "times": (run.info.start_time, run.info.end_time),
        "tags": tags,
        "above": above and names[above],
        "params": run.data.params,
        "metrics": run.data.metrics,
        "history": [(one, point.value, point.timestamp, point.step) for point in history],
        "data": [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs],
        "files": kept,
    }


def finished(made):
    return {name: run for name, run in made.items() if run["status"] == "FINISHED"}


def again(folder, server, experiment, wanted):
    """What is there is no more than a part, and recording again makes it whole."""
    try:
        part = runs(server, experiment)
    except AssertionError:  # a run may be there twice until then
        part = {}
    assert finished(part).items() <= wanted.items()
    for _ in range(2):
        result = publish.record(folder, server, experiment)
        assert result.reason == ""
        assert result.created + result.updated == len(wanted)
    assert result.created == 0
    assert runs(server, experiment) == wanted


@pytest.mark.parametrize("status", [500, 429])
def test_a_server_that_refuses_at_first_is_asked_again(status, whole, server, proxy):
    folder, wanted, calls = whole
    struck = Random(f"{SEED} {status}").randrange(2, calls - 2)
    proxy.strike = lambda number: status if number in (1, struck) else None
    assert publish.record(folder, proxy.uri, f"refusing {status}").reason == ""
    assert runs(server, f"refusing {status}") == wanted


def test_a_server_that_only_refuses_is_told_of(whole, proxy):
    folder, before = whole[0], files(whole[0])
    proxy.strike = lambda number: 500
    result = publish.record(folder, proxy.uri, "never")
    assert not result.recorded
    assert "500" in result.reason
    assert files(folder) == before


@pytest.mark.parametrize("struck", ["after", "before", "slow"])
def test_an_answer_that_is_lost_makes_no_run_twice(struck, whole, server, proxy, monkeypatch):
    folder, wanted, calls = whole
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3" if struck == "slow" else "20")
    # Those that make the runs are among the first; of any two in a row one is struck at most.
    first = range(2, 12, 2) if struck != "slow" else [5]
    late = 12 + 2 * Random(f"{SEED} {struck}").randrange((calls - 14) // 2)
    proxy.strike = lambda number: struck if number in {*first, late} else None
    result = publish.record(folder, proxy.uri, f"lost {struck}")
    assert (result.reason, result.created + result.updated) == ("", len(wanted))
    assert runs(server, f"lost {struck}") == wanted


@pytest.mark.parametrize("struck", ["after", "before", "slow"])
def test_a_server_that_dies_while_a_sweep_is_recorded(
    struck, whole, server, proxy, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1" if struck == "slow" else "20")
    folder, wanted, calls = whole
    before = files(folder)
    draw = Random(f"{SEED} dies {struck}")
    parts = 1 if struck == "slow" else 2
    for part in range(parts):
        last, experiment = 1 + (part * calls + draw.randrange(calls)) // parts, f"{struck} {part}"
        start = proxy.calls
        proxy.strike = lambda number, last=start + last: struck if number >= last else None
        result = publish.record(folder, proxy.uri, experiment)
        assert not result.recorded, (last, calls, proxy.calls - start)
        assert "127.0.0.1" in result.reason
        assert files(folder) == before
        again(folder, server, experiment, wanted)


def test_a_run_whose_server_dies_ends_well_and_says_how_to_record(
    whole, server, proxy, tmp_path, results
):
    undisturbed, _, calls = whole
    last = Random(f"{SEED} run").randrange(1, calls + 1)
    proxy.strike = lambda number: "before" if number >= last else None
    result = run(tmp_path / "t", proxy.uri, "of a run")
    assert result.exit_code == 0
    assert result.record_error
    assert results(tmp_path / "t") == results(undisturbed)
    said = publish.record(tmp_path / "t", server, "of a run")
    assert (said.reason, said.created + said.updated) == ("", 3)
    assert finished(runs(server, "of a run")).keys() == whole[1].keys()


@pytest.mark.parametrize("part", range(KILLS))
def test_a_recorder_that_is_killed_at_any_call(part, whole, server, recorder):
    folder, wanted, calls = whole
    draw = Random(f"{SEED} killed {part}")
    at, before = 1 + (part * calls + draw.randrange(calls)) // KILLS, files(folder)
    ended = recorder(folder, server, f"killed {part}", at, draw.random() < 0.5)
    assert ended == -9, at
    assert files(folder) == before
    again(folder, server, f"killed {part}", wanted)
