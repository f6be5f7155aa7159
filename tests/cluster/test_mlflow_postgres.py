"""MLflow as a team has it: a server over a real PostgreSQL, and several users at once."""

import itertools
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import yaml

from editsweep.bench import servers
from editsweep.store import tracking
from editsweep.store.tracking_client import Runs

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("EDITSWEEP_TEST_SEED", "0"))
PARTS = 2
OURS = "editsweep."
USER = """
import json, sys, time
from pathlib import Path
from editsweep.store import tracking
folder, uri, start, experiment = sys.argv[1:]
while not Path(start).exists():
    time.sleep(0.01)
row = {"axis": "reliability", "metric": "exact_match", "protocol": "t", "phase": "post"}
row |= {"mean": 0.5, "ci_low": 0.25, "ci_high": 0.75, "n": 2}
cells = json.loads(Path(folder, "plan.json").read_text())["cells"]
result = tracking.record(Path(folder), uri, experiment, [row | {"cell_id": c["cell_id"]} for c in cells])
print(result)
sys.exit(not result.recorded)
"""


@pytest.fixture(scope="module")
def postgres():
    """The URI of a database of our own, with a password, on this machine only."""
    if not servers.has_postgres():
        pytest.skip("no PostgreSQL here (Debian: apt-get install postgresql)")
    with servers.postgres() as made:
        yield made.uri


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    """A real MLflow server over it."""
    folder = tmp_path_factory.mktemp("server")
    with servers.mlflow_server(folder, postgres, ["--workers", "2"]) as uri:
        yield uri


def record_at_once(folders, uri, start, experiment="team", settings=None):
    """Everybody records at the same moment; what each of them said."""
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USER, str(folder), uri, str(start), experiment],
            env={**os.environ, "PYTHONPATH": str(ROOT / "pipeline"), **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for folder, more in zip(folders, settings or [{}] * len(folders), strict=True)
    ]
    time.sleep(1)
    start.touch()
    said = [user.communicate(timeout=200)[0] for user in users]
    assert [user.returncode for user in users] == [0] * len(users), said
    return said


def runs_of(uri, sweep_id, experiment="team"):
    """The sweep's runs by kind and key, each as often as it is there."""
    return Runs(uri, experiment, {"editsweep.sweep_id": sweep_id}).look()


def test_several_users_lose_nothing_and_make_no_run_twice(synthetic, server, tmp_path):
    sweeps = [synthetic("a", edits=2), synthetic("b", edits=2)]
    sweeps[1].plan["sweep_id"] = "b" * 32
    for sweep in sweeps:
        sweep.commit()
    folders = [sweeps[0].folder, sweeps[0].folder, sweeps[1].folder]
    record_at_once(folders, server, tmp_path / "start")
    for sweep in sweeps:
        there = runs_of(server, sweep.plan["sweep_id"])
        assert {kind for kind, _ in there} == {"sweep", "cell"}
        assert len(there) == 5
        assert [len(runs) for runs in there.values()] == [1] * 5
        (parent,) = there["sweep", sweep.plan["sweep_id"]]
        for (kind, _), (run,) in there.items():
            assert run.data.tags["editsweep.status"] == "complete"
            if kind == "cell":
                assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
                assert run.data.metrics["reliability.exact_match.ci_high"] == 0.75
    again = record_at_once(folders[:1], server, tmp_path / "start")
    assert "created=0, updated=5" in again[0]


def test_a_database_without_a_server_is_recorded_in_and_its_password_is_not_told(
    synthetic, postgres, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sweep = synthetic("c", edits=1)
    sweep.plan["sweep_id"] = "c" * 32
    sweep.commit()
    (tmp_path / "start").touch()
    # Not that of the server, whose artifacts go by it.
    (said,) = record_at_once([sweep.folder], postgres, tmp_path / "start", "direct")
    secret = postgres.split(":")[2].split("@")[0]
    assert "recorded=True" in said
    assert secret not in said
    assert len(runs_of(postgres, "c" * 32, "direct")) == 5
    down = f"postgresql+psycopg://mlflow:{secret}@127.0.0.1:{servers.free_port()}/postgres"
    result = tracking.record(sweep.folder, down, "direct", [])
    assert "no database at 127.0.0.1" in result.reason
    assert secret not in str(result)


def test_two_at_once_may_be_the_first_in_a_new_database(synthetic, postgres, tmp_path):
    import psycopg

    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as database:
        database.execute("CREATE DATABASE fresh")
    sweeps = [synthetic("d", edits=1), synthetic("e", edits=1)]
    # MLflow's own lock is a file of one machine: these two are on two, so to say.
    settings = [{"TMPDIR": str(tmp_path / name)} for name in ("one", "other")]
    for sweep, more in zip(sweeps, settings, strict=True):
        sweep.plan["sweep_id"] = sweep.folder.name * 32
        sweep.commit()
        Path(more["TMPDIR"]).mkdir()
    uri = postgres.removesuffix("postgres") + "fresh"
    folders = [sweep.folder for sweep in sweeps]
    record_at_once(folders, uri, tmp_path / "start", "direct", settings)
    for sweep in sweeps:
        there = runs_of(uri, sweep.plan["sweep_id"], "direct")
        assert [len(runs) for runs in there.values()] == [1] * 5


@contextmanager
def watched(do):
    """Within the block `do` is called before each statement that goes to a database."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def called(*_):
        do()

    event.listen(Engine, "before_cursor_execute", called)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", called)


def held(uri, experiment):
    """What a sweep's runs hold, and each is there once."""
    there = runs_of(uri, "d" * 32, experiment)
    assert [len(runs) for runs in there.values()] == [1] * len(there)
    return {
        who: (run.info.status, run.data.metrics, run.data.params, run.data.tags[f"{OURS}content"])
        for who, (run,) in there.items()
    }


def test_a_database_that_dies_while_a_sweep_is_recorded(synthetic, postgres, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = synthetic("d", edits=1)
    sweep.plan["sweep_id"] = "d" * 32
    sweep.commit()
    row = {"axis": "reliability", "metric": "exact_match", "protocol": "t", "phase": "post"}
    row |= {"mean": 0.5, "ci_low": 0.25, "ci_high": 0.75, "n": 2}
    rows = [row | {"cell_id": cell["cell_id"]} for cell in sweep.plan["cells"]]
    with servers.postgres() as database:

        def record(experiment, before_statement):
            with watched(before_statement):
                return tracking.record(sweep.folder, database.uri, experiment, rows)

        record("first", lambda: None)  # makes the tables
        statements = itertools.count()
        assert record("whole", lambda: next(statements)).recorded
        whole, count = held(database.uri, "whole"), next(statements)
        for part in range(PARTS):
            last = (part * count + Random(f"{SEED} {part}").randrange(count)) // PARTS
            left = iter([*[lambda: None] * last, lambda: database.stop("immediate")])
            try:
                died = record(f"died {part}", lambda left=left: next(left, lambda: None)())
            finally:
                database.start()
            assert not died.recorded, (last, count)
            assert database.uri.split(":")[2].split("@")[0] not in died.reason
            for _ in range(2):
                result = record(f"died {part}", lambda: None)
                assert (result.reason, result.created + result.updated) == ("", 5), last
            assert result.created == 0
            assert held(database.uri, f"died {part}") == whole


ODD = "nul \0, שלום, 🦙\nline\ttab 'quoted' \"twice\" 100% {x} \\ ;--"


def test_whatever_a_sweep_holds_is_recorded(synthetic, server):
    sweep = synthetic("f", edits=1)
    many = {f"p{i}": "🦙" * 3000 if i % 2 else i for i in range(250)}
    none, ft, rome, _ = sweep.plan["cells"]
    none["label"], none["split"], none["params"] = ODD, ODD, {ODD: ODD, "a//b": "..", "..": 1}
    ft["label"], ft["params"] = "long " * 2000, many | {"long": "x" * 9000}
    row = {"metric": "m", "protocol": "t", "phase": "post", "ci_low": None, "ci_high": None}
    row |= {"mean": 0.5, "n": 1, "cell_id": rome["cell_id"]}
    names = [ODD, "/", "..", "../x", *map(str, range(1200))]
    sweep.plan["sweep_id"] = "f" * 32
    sweep.plan["name"] = ODD
    sweep.commit()
    rows = [row | {"axis": name} for name in names]
    for times in ("made", "there"):
        result = tracking.record(sweep.folder, server, "odd", rows)
        assert (result.reason, getattr(result, "created" if times == "made" else "updated")) == (
            "",
            5,
        )
    there = runs_of(server, "f" * 32, "odd")
    odd, long, metrics = (there["cell", cell["cell_id"]][0] for cell in (none, ft, rome))
    assert odd.info.run_name == ODD.replace("\0", "\ufffd")
    assert odd.data.params["editor.a__b"] == ".."
    assert odd.inputs.dataset_inputs[0].dataset.name.startswith("world:nul \ufffd, שלום, 🦙")
    assert len(long.info.run_name) == 250
    assert long.data.params["editor.p1"] == "🦙" * 3000
    assert [len(long.data.params["editor.long"]), len(long.data.params)] == [6000, 259]
    assert len(metrics.data.metrics) == 2 * len(names)
    assert {run.info.status for (run,) in there.values()} == {"FINISHED"}


def test_the_compose_file_keeps_to_this_machine_and_holds_no_password():
    folder = ROOT / "jobs" / "mlflow"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    services = compose["services"]
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published == ["127.0.0.1:5000:5000"]
    volumes = {v.split(":")[0] for s in services.values() for v in s["volumes"]}
    assert volumes == set(compose["volumes"])
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSW")
    example = (folder / ".env.example").read_text().splitlines()
    assert [line for line in example if not line.startswith("#")] == ["POSTGRES_PASSWORD="]
    pinned = dict(
        line.strip().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    image = services["mlflow"]["build"]["dockerfile_inline"]
    assert f"mlflow:v{pinned['mlflow']}\n" in image
    assert f"psycopg[binary]=={pinned['psycopg']}" in image
