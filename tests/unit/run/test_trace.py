"""Tracing into a folder: resumed by fact, bound to its settings, recorded once."""

import json
from dataclasses import replace

import pytest

from editsweep.core import schema
from editsweep.errors import ConfigError, DataError
from editsweep.model.catalogue import resolve
from editsweep.model.tracing import TraceSettings
from editsweep.run import trace as tracing
from editsweep.run.trace import TraceJob, TraceOptions, one_prompt, run_trace

FEW = TraceSettings(samples=2, window=2)


@pytest.fixture
def data(tmp_path):
    """Two facts, and one without a subject."""
    records = [
        {"subject": "Lyon", "prompt": "{} is in", "target_new": "Japan", "target_true": "France"},
        {"subject": None, "prompt": "Here is", "target_new": "Peru", "target_true": "Lyon"},
        {"subject": "Oslo", "prompt": "In {} is", "target_new": "Peru"},
    ]
    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


@pytest.fixture
def job(data):
    return TraceJob(resolve("tiny-llama"), data, every=True, settings=FEW)


def test_a_dataset_is_traced_and_found_again(job, tmp_path, monkeypatch):
    options = TraceOptions(tmp_path / "out", pictures=1, record=False)
    first = run_trace(replace(job, limit=1), options)
    assert (first.summary["facts"], first.found) == (1, 0)
    (kept,) = (tmp_path / "out" / "facts").glob("*.arrow")
    before = kept.read_bytes()

    second = run_trace(job, options)
    assert (second.summary["facts"], second.found) == (2, 1)
    assert second.left_out == {"tracing corrupts a subject's tokens; this fact has none": 1}
    assert kept.read_bytes() == before
    table = schema.from_ipc((tmp_path / "out" / "traces.arrow").read_bytes())
    assert table.schema.equals(schema.TRACES)
    assert len(set(table["fact_id"].to_pylist())) == 2
    assert set(table["kind"].to_pylist()) == {"state", "mlp", "attention"}

    kept.write_bytes(before[:-9])  # cut by a crash of the disk
    third = run_trace(job, options)
    assert third.found == 1
    assert kept.read_bytes() == before

    monkeypatch.setattr(tracing, "trace", lambda *_, **__: iter(()))
    assert run_trace(job, options).found == 2


def test_a_folder_keeps_to_its_settings(job, tmp_path):
    options = TraceOptions(tmp_path / "out", record=False)
    run_trace(job, options)
    other = replace(job, settings=replace(FEW, seed=2))
    with pytest.raises(ConfigError, match="seed 1, and this one has 2: choose another --out"):
        run_trace(other, options)


def test_nothing_that_the_model_knows_is_told(job, tmp_path):
    options = TraceOptions(tmp_path / "out", record=False)
    with pytest.raises(DataError, match=r"no fact .* can be traced: .*known answer"):
        run_trace(replace(job, every=False), options)


def test_one_prompt_has_a_subject():
    braces = one_prompt("The {Space Needle} is in", None)
    named = one_prompt("The Space Needle is in", "Space Needle")
    assert braces == named
    assert (named.subject, named.prompt) == ("Space Needle", "The {} is in")
    for text, subject in (
        ("The Space Needle is in", None),
        ("The Space Needle is in", "Eiffel"),
        ("The {Space Needle} is in", "Space Needle"),
        ("The Space Needle is in", " "),
    ):
        with pytest.raises(ConfigError, match="subject"):
            one_prompt(text, subject)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_it_is_recorded_once_with_tables_and_pictures(tmp_path):
    from mlflow import MlflowClient

    prompt = one_prompt("The {Eiffel Tower} is in", None)
    job = TraceJob(resolve("tiny-llama"), prompt=prompt, sigma=0.3, settings=FEW)
    options = TraceOptions(tmp_path / "tower", experiment="traces")
    assert run_trace(job, options).record_error == ""
    assert run_trace(job, options).record_error == ""
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    place = client.get_experiment_by_name("traces")
    (run,) = client.search_runs([place.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["sigma"] == "0.3"
    assert run.data.metrics["facts"] == 1
    curve = client.get_metric_history(run.info.run_id, "effect.mlp.last_subject")
    assert sorted(point.step for point in curve) == [0, 1, 2]
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"traces.arrow", "roles.arrow", "roles.svg", "trace.html", "heatmaps"} <= names
