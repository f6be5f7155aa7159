"""No secret of the environment is in anything that a run writes, whatever an editor says."""

import os
from pathlib import Path

import pyarrow.compute as pc
import pytest

from editsweep.core.secrets import HIDDEN
from editsweep.editors import none
from editsweep.errors import EditError
from editsweep.run.drive import WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

EDITS = Path(__file__).parents[1] / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none]
datasets: [{{name: "{EDITS}", limit: 2}}]
metrics: {{generate: []}}
unit_size: 1
"""
CANARY = "canary-5up3r"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("how", ["a failed edit", "an exception"])
def test_it_is_in_no_table_no_log_and_not_in_mlflow(tmp_path, monkeypatch, how):
    monkeypatch.setenv("HF_TOKEN", CANARY)

    def edit(self, groups, seed):
        text = f"401 for {os.environ['HF_TOKEN']} at http://me:{CANARY}@host/"
        raise (EditError("refused", text) if how == "a failed edit" else RuntimeError(text))

    monkeypatch.setattr(none._Unedited, "edit", edit)
    said = []
    monkeypatch.setattr("editsweep.run.progress.Silent.say", lambda self, text: said.append(text))
    folder = tmp_path / "t"
    result = run_sweep(parse_sweep(SWEEP), folder, RunOptions("inline", threads=1))
    assert (result.exit_code, result.record_error) == (WITH_FAILURES, "")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    assert not [path.name for path in files if CANARY.encode() in path.read_bytes()]
    edits = SweepStore(folder).table("edits")
    assert not any(CANARY in str(row) for row in edits.to_pylist())
    assert pc.all(pc.match_substring(edits["error_text"], HIDDEN)).as_py()
    assert not any(CANARY in text for text in said)
