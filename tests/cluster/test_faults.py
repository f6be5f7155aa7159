"""Real workers that kill themselves at chosen places: the tables of an undisturbed run.

EDITSWEEP_TEST_SEED chooses which edits are struck.
"""

import json
import os
from pathlib import Path
from random import Random

import pytest

from editsweep.core import schema
from editsweep.run.drive import WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.layout import cores
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

pytestmark = pytest.mark.cluster

EDITS = Path(__file__).parents[1] / "data" / "edits.jsonl"
SEED = int(os.environ.get("EDITSWEEP_TEST_SEED", "0"))
WORKER = "ray::Worker"


def all_but(found, subject):
    """Rows of all edits but one, of which `results` found."""
    (lost,) = {row["edit_id"] for row in found["edits"] if row["subject"] == subject}
    return {kind: [r for r in found[kind] if r["edit_id"] != lost] for kind in schema.PARTS}


@pytest.mark.timeout(600)
def test_only_what_kills_its_worker_each_time_is_lost(tmp_path, faulty, results, strike):
    with EDITS.open() as file:
        subjects = [line.split('"')[3] for line in file][:5]
    assert subjects[0] == "Lyon"
    text = f"""
name: t
models: [tiny-llama]
editors: [{{name: faulty, orders: "{faulty}"}}]
datasets: [{{name: "{EDITS}", limit: 5}}]
metrics: {{max_new_tokens: 2}}
unit_size: 1
"""
    calm, folder, killer = tmp_path / "calm" / "t", tmp_path / "t", strike(WORKER)
    run_sweep(parse_sweep(text), calm, RunOptions("inline", threads=1, record=False))
    Random(SEED).shuffle(subjects)
    poison = subjects[0]
    faults = {poison: "die"}
    faults |= dict(zip(subjects[1:], ("die", "ask", "reply", "broken"), strict=True))
    for subject, fault in faults.items():
        (faulty / f"{subject}.{fault}").write_text("always" if subject == poison else "once")
    count = min(2, cores())
    options = RunOptions("ray", workers=count, threads=1, cache=tmp_path / "cache", record=False)
    result = run_sweep(parse_sweep(text), folder, options, killer)
    # Once: with its own fault no healthy edit loses a worker alone twice, which would be its fault.
    assert (result.exit_code, result.edits_failed, len(killer.struck)) == (WITH_FAILURES, 1, 1)
    log = map(json.loads, (folder / "progress.jsonl").read_text().splitlines())
    deaths = [event["kind"] for event in log if event["event"] == "worker_died"]
    assert deaths.count("gpu_failed") == 1
    assert [path.name for path in faulty.iterdir()] == [f"{poison}.die"]
    assert all_but(results(folder), poison) == all_but(results(calm), poison)
    (lost,) = (r for r in SweepStore(folder).table("edits").to_pylist() if r["status"] != "ok")
    assert (lost["subject"], lost["error_kind"]) == (poison, "worker_died")
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == len(SweepStore(folder).committed()) == 5
