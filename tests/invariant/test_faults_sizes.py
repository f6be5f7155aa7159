"""Sweeps of nothing and of one: refused with the place named, or done like any other."""

import json
from pathlib import Path

import pytest

from editsweep.errors import ConfigError, DataError
from editsweep.run.drive import WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

EDITS = Path(__file__).parents[1] / "data" / "edits.jsonl"
SWEEP = """
name: t
models: [tiny-llama]
editors: [{{name: ft, steps: 1}}]
datasets: [{{name: "{data}", limit: 3, skip_bad: true}}]
metrics: {{max_new_tokens: 2}}
unit_size: 1
"""


def run(folder, data, text=SWEEP):
    options = RunOptions("inline", threads=1, record=False)
    return run_sweep(parse_sweep(text.format(data=data)), folder, options)


def rows(folder, kind="edits"):
    """Of a table, without what is timed and what is named after the sweep or the whole dataset."""
    own = {"sweep_id": "", "cell_id": "", "unit_id": ""}
    timed = {"edit_s": 0, "probe_s": 0} if kind == "edits" else {}
    return [row | own | timed for row in SweepStore(folder).table(kind).to_pylist()]


def values(folder, edit_id):
    """The numbers of one edit, at its own checkpoint in a sequence, by what they are."""
    names = ("probe_id", "metric", "protocol", "phase")
    found = [r for r in rows(folder, "measurements") if r["edit_id"] == edit_id]
    found = [r for r in found if r["phase"] != "retained" and r["axis"] != "drift"]
    return {tuple(row[n] for n in names): row["value"] for row in found}


@pytest.mark.parametrize("content", ["", "\n \n", '{"subject": 1}\n'])
def test_a_dataset_without_an_edit_is_refused_and_leaves_no_folder(tmp_path, content):
    data = tmp_path / "none.jsonl"
    data.write_text(content)
    with pytest.raises(DataError, match=r"none\.jsonl.*(no edit|no usable record)"):
        run(tmp_path / "t", data)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("part", ["models", "editors", "datasets", "regimes", "seeds"])
def test_a_sweep_without_a_cell_is_refused_with_the_list_that_is_empty(tmp_path, part):
    lines = [line for line in SWEEP.splitlines() if not line.startswith(part)]
    with pytest.raises(ConfigError, match=rf"{part}: .*at least 1 item"):
        run(tmp_path / "t", EDITS, "\n".join([*lines, f"{part}: []"]))
    assert not (tmp_path / "t").exists()


def test_one_edit_in_one_cell_is_what_it_is_among_others(tmp_path):
    data = tmp_path / "one.jsonl"
    line = EDITS.read_text(encoding="utf-8").splitlines()[0]
    data.write_text(line)
    one, several = run(tmp_path / "t", data), run(tmp_path / "all", EDITS)
    assert (one.exit_code, one.units, one.edits, one.edits_failed) == (0, 1, 1, 0)
    assert several.edits == 3
    (edit,) = rows(tmp_path / "t")
    for kind in ("edits", "measurements", "answers"):
        among = [r for r in rows(tmp_path / "all", kind) if r["edit_id"] == edit["edit_id"]]
        assert rows(tmp_path / "t", kind) == among
    assert (tmp_path / "t" / "report.html").stat().st_size > 1000
    again = run(tmp_path / "t", data)
    assert (again.exit_code, again.units_now) == (0, 0)


@pytest.mark.parametrize("regime", ["single", "batch: 2", "sequential: {size: 1, every: 2}"])
def test_a_prompt_of_a_megabyte_fails_alone(tmp_path, regime):
    data, short = tmp_path / "own.jsonl", tmp_path / "short.jsonl"
    records = [json.loads(line) for line in EDITS.read_text(encoding="utf-8").splitlines()[:4]]
    short.write_text(json.dumps(records[0]))
    records[1]["prompt"] = "{} " + "is in " * 170_000
    data.write_text("\n".join(map(json.dumps, records)))
    text = SWEEP.replace("limit: 3, ", "").replace("unit_size: 1", "unit_size: 2")
    text += f"regimes:\n  - {regime.replace('{', '{{').replace('}', '}}')}\n"
    result = run(tmp_path / "t", data, text)
    assert (result.exit_code, result.edits, result.edits_failed) == (WITH_FAILURES, 4, 1)
    edits = rows(tmp_path / "t")
    assert [row["error_kind"] for row in edits] == [None, "too_long", None, None]
    assert "reads at most 4096: shorten it" in edits[1]["error_text"]
    assert set(values(tmp_path / "t", edits[1]["edit_id"]).values()) == {None}
    assert run(tmp_path / "short", short, text).exit_code == 0
    found, wanted = (values(tmp_path / name, edits[0]["edit_id"]) for name in ("t", "short"))
    assert wanted
    assert found == pytest.approx(wanted, abs=1e-4)
