"""A secret in a variable or an address is in nothing that a sweep leaves behind."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from editsweep.errors import ConfigError
from editsweep.launch.job import make_job
from editsweep.run.drive import WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.progress import shown
from editsweep.run.sweep import parse_sweep

EDITS = Path(__file__).parents[2] / "data" / "edits.jsonl"
CANARY = "canary-that-never-sings"
SWEEP = """
name: t
models: [tiny-llama]
editors: [{{name: faulty, orders: "{orders}"}}]
datasets: [{{name: "{edits}", limit: 2}}]
metrics: {{max_new_tokens: 2, generate: []}}
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # mlflow's
@pytest.mark.parametrize("kind", ["error", "refuse"])
def test_no_file_has_what_a_failing_editor_says(kind, faulty, tmp_path, monkeypatch, capsys):
    import faulty_editor

    from editsweep.errors import EditError

    monkeypatch.setenv("HF_TOKEN", CANARY)

    def error(self, groups):
        raise RuntimeError(f"401 for {CANARY} at https://bob:{CANARY}@hub")

    def refuse(self, groups):
        raise EditError("refused", f"with {CANARY}")

    monkeypatch.setattr(faulty_editor.Faulty, "error", error)
    monkeypatch.setattr(faulty_editor.Faulty, "refuse", refuse, raising=False)
    subjects = [json.loads(line)["subject"] for line in EDITS.read_text().splitlines()]
    for subject in subjects[:2]:
        (faulty / f"{subject}.{kind}").write_text("always")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    options = RunOptions("inline", tracking_uri=uri, cache=tmp_path / "cache")
    sweep = parse_sweep(SWEEP.format(orders=faulty, edits=EDITS))
    with shown(Console()) as progress:
        result = run_sweep(sweep, tmp_path / "out" / "t", options, progress)
    assert (result.exit_code, result.edits_failed, result.record_error) == (WITH_FAILURES, 2, "")
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {"mlflow.db", "plan.json", "progress.jsonl"} <= {p.name for p in written}
    assert [p for p in written if CANARY.encode() in p.read_bytes()] == []
    (table,) = (tmp_path / "out" / "t").rglob("edits*")
    assert "[hidden]" in "".join(map(str, capsys.readouterr())) or b"[hidden]" in table.read_bytes()


def test_a_database_that_is_away_is_told_without_its_password(tmp_path, monkeypatch, capsys):
    uri = f"postgresql://bob:{CANARY}@127.0.0.1:1/x"
    options = RunOptions("inline", tracking_uri=uri, cache=tmp_path / "cache")
    text = SWEEP.replace('{{name: faulty, orders: "{orders}"}}', "none").format(edits=EDITS)
    with shown(Console()) as progress:
        result = run_sweep(parse_sweep(text), tmp_path / "out" / "t", options, progress)
    assert "127.0.0.1" in result.record_error
    assert CANARY not in result.record_error + "".join(map(str, capsys.readouterr()))
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert [p for p in written if CANARY.encode() in p.read_bytes()] == []


@pytest.mark.parametrize("label", [CANARY, f"http://bob:{CANARY}@h"])
def test_a_secret_in_a_sweep_file_is_not_handed_on(label, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", CANARY)
    path = tmp_path / "t.yaml"
    path.write_text(
        f"name: t\nmodels: [tiny-llama]\neditors: [{{name: none, label: '{label}'}}]\n"
        f"datasets: [{{name: '{EDITS}', limit: 1}}]\n"
    )
    with pytest.raises(ConfigError, match="secret") as told:
        make_job(path, tmp_path / "runs")
    assert CANARY not in str(told.value)
