"""Measuring a run anew from its answers gives what the run gave, and says what it could not."""

import json
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest

from editsweep.core import schema
from editsweep.errors import ConfigError, StoreError
from editsweep.metrics import suite
from editsweep.run import publish
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.rescore import rescore
from editsweep.run.status import read_status
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

OPTIONS = RunOptions(executor="inline", record=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with single edits, a sequence, and edits that fail."""
    folder = tmp_path_factory.mktemp("runs") / "old"
    edits = folder.parent / "edits.jsonl"
    edits.write_text("".join(json.dumps(edit(i)) + "\n" for i in range(3)), encoding="utf-8")
    sweep = {
        "name": "old",
        "models": ["tiny-llama"],
        "editors": [{"name": "rome", "moment": "identity", "steps": 2}],
        "datasets": [str(edits)],
        "regimes": ["single", {"sequential": {"size": 1, "every": 2, "sample": 2}}],
        "metrics": {"max_new_tokens": 2},
        "unit_size": 2,
    }
    result = run_sweep(parse_sweep(json.dumps(sweep)), folder, OPTIONS)
    assert result.edits_failed > 0  # ROME needs a subject
    return folder


def edit(place):
    subject = ["Lyon", None, "Kyoto"][place]
    about = subject or "The river"
    return {
        "subject": subject,
        "prompt": "{} is in" if subject else f"{about} is in",
        "target_new": "Norway",
        "target_true": "France",
        "probes": [
            {"axis": "paraphrase", "prompt": f"We saw {about} in", "answers": ["Norway", "Norge"]},
            {"axis": "locality", "prompt": f"{about} is known for"},
            {
                "axis": "locality",
                "facet": "neighbourhood",
                "prompt": f"Near {about}, in",
                "answers": ["France"],
                "unwanted": "Norway",
            },
            {"axis": "condition", "prompt": f"{about} was", "answers": ["there", "here"]},
            {
                "axis": "portability",
                "prompt": f"The king of {about} is",
                "answers": ["Harald"],
                "needs": [3],
            },
        ],
    }


def numbers(folder):
    table = SweepStore(folder).table("measurements").drop_columns(["sweep_id"])
    return sorted(table.to_pylist(), key=str)


def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / "old")


def test_the_same_suite_gives_the_same_numbers(run, tmp_path):
    out = tmp_path / "new"
    done = rescore(run, out)
    publish.report(run)
    publish.report(out)
    assert (out / "leaderboard.csv").read_bytes() == (run / "leaderboard.csv").read_bytes()
    assert (out / "chains.csv").read_bytes() == (run / "chains.csv").read_bytes()
    assert numbers(out) == numbers(run)
    for kind in ("edits", "answers"):
        old, new = (SweepStore(f).table(kind).drop_columns(["sweep_id"]) for f in (run, out))
        assert old.equals(new)
    assert {r["status"] for r in numbers(out) if r["axis"] == "portability"} == {"condition unmet"}
    late = [r for r in numbers(run) if r["phase"] == "retained" or r["axis"] == "drift"]
    assert late
    assert done.carried == len(late)
    assert (done.units_missing, done.warnings) == (0, ())
    status = read_status(out)
    assert status["state"] == "complete with failures"
    plan = json.loads((out / "plan.json").read_text())
    assert plan["rescored_from"]["sweep_id"] != plan["sweep_id"] == status["sweep_id"]
    assert set(SweepStore(out).table("edits")["sweep_id"].to_pylist()) == {plan["sweep_id"]}
    assert rescore(run, out).units_now == 0


def test_lost_and_spoilt_numbers_come_back(run, tmp_path):
    old = copied(run, tmp_path)
    store = SweepStore(old)
    plan = json.loads((old / "plan.json").read_text())
    shutil.rmtree(old / "parts")
    lines = {unit["unit_id"]: unit for unit in plan["units"]}
    (old / "manifest.jsonl").unlink()
    source = SweepStore(run)
    with store.locked() as driver:
        for unit in lines:
            parts = {kind: source.part(kind, unit) for kind in schema.PARTS}
            late = [
                r | {"value": r["value"] if r["axis"] == "drift" else -7.0}
                for r in parts["measurements"].to_pylist()
                if r["phase"] == "retained" or r["axis"] == "drift" or r["metric"] == "agreement"
            ]
            parts["measurements"] = schema.table(schema.MEASUREMENTS, late)
            made = {kind: schema.to_ipc(table) for kind, table in parts.items()}
            driver.commit(unit, made, attempt=1, seconds=1.0, host="h")
    rescore(old)
    found = numbers(tmp_path / "old-rescored")
    first = [r for r in numbers(run) if r["phase"] != "retained"]
    assert [r for r in found if r["phase"] != "retained"] == first
    # What only a model could tell stays as it was found.
    assert {r["value"] for r in found if r["phase"] == "retained"} == {-7.0}


def test_a_metric_that_is_new_is_measured(run, tmp_path, monkeypatch):
    new = suite.Metric("loud", "loud", lambda *said: float(len(said[-1].said)), "")
    board = {**suite.SUITE, "locality": (*suite.SUITE["locality"], new)}
    monkeypatch.setattr(suite, "SUITE", board)
    monkeypatch.setattr(suite, "VERSION", "next")
    rescore(run, tmp_path / "new")
    found = [r for r in numbers(tmp_path / "new") if r["metric"] == "loud"]
    assert {r["phase"] for r in found} == {"pre", "post"}
    assert any(r["value"] is None and r["status"] == "no_subject" for r in found)
    assert json.loads((tmp_path / "new" / "plan.json").read_text())["suite"]["version"] == "next"
    monkeypatch.setattr(suite, "VERSION", "after that")
    with pytest.raises(StoreError, match="after that"):
        rescore(run, tmp_path / "new")


def test_a_part_of_a_run_is_rescored_and_later_the_rest(run, tmp_path):
    old = copied(run, tmp_path)
    lines = (old / "manifest.jsonl").read_text().splitlines(keepends=True)
    (old / "manifest.jsonl").write_text("".join(lines[:2]))
    done = rescore(old)
    assert (done.units_now, done.units_missing) == (2, len(lines) - 2)
    assert read_status(done.folder)["state"] == "incomplete"
    (old / "manifest.jsonl").write_text("".join(lines))
    done = rescore(old)
    assert (done.units_now, done.units_missing) == (len(lines) - 2, 0)
    assert numbers(done.folder) == numbers(run)


def test_a_unit_that_was_done_again_is_rescored_again(run, tmp_path):
    old = copied(run, tmp_path)
    done = rescore(old)
    store = SweepStore(old)
    unit, line = next(iter(store.committed().items()))
    parts = {kind: schema.to_ipc(store.part(kind, unit)) for kind in schema.PARTS}
    with store.locked() as driver:
        driver.withdraw(unit)
        assert rescore(old).units_missing == 1
        assert unit not in SweepStore(done.folder).committed()
        driver.commit(unit, parts, attempt=2, seconds=line.seconds, host=line.host)
    assert rescore(old).units_now == 1
    assert numbers(done.folder) == numbers(run)


def test_what_is_there_is_not_written_over(run, tmp_path):
    with pytest.raises(ConfigError, match="is the run itself"):
        rescore(run, run)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        rescore(run, tmp_path)
    with pytest.raises(StoreError, match="the folder of a sweep"):
        rescore(tmp_path)
    other = copied(run, tmp_path)
    with pytest.raises(StoreError, match="another sweep"):
        rescore(run, other)


def test_parts_without_later_columns_are_read(run):
    """A column that is new has to say what stands in it where an older part is read."""
    old = {
        "edits": "sweep_id cell_id unit_id edit_id position group subject prompt target_new "
        "target_true relation known status error_kind error_text edit_s probe_s steps loss "
        "patch_norm patch_rank patch_bytes",
        "measurements": "sweep_id cell_id unit_id edit_id probe_id axis facet metric protocol "
        "phase value status",
        "answers": "sweep_id cell_id unit_id edit_id probe_id axis facet prompt role text token_ids "
        "pre_logprobs pre_argmax pre_said post_logprobs post_argmax post_said",
    }
    for kind, names in old.items():
        table = SweepStore(run).table(kind)
        assert schema.fitted(table.select(names.split()), schema.PARTS[kind]).num_rows
    wider = pa.schema(
        [*schema.ANSWERS, pa.field("pre_spoke", pa.bool_(), nullable=False)]
        if "pre_spoke" not in schema.ANSWERS.names
        else schema.ANSWERS
    )
    table = SweepStore(run).table("answers").select(old["answers"].split())
    assert set(schema.fitted(table, wider)["pre_spoke"].to_pylist()) == {False}
    with pytest.raises(ValueError, match="facet"):
        schema.fitted(table.drop_columns(["facet"]), schema.ANSWERS)


def test_it_needs_neither_torch_nor_ray():
    code = (
        "import sys, editsweep.run.rescore, editsweep.run.publish, editsweep.cli.rescore\n"
        "print(*{'torch', 'ray', 'mlflow', 'transformers'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
