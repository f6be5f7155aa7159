"""Numbers that are none (NaN) in one edit: it alone is without them, and means and page are sound."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest

from editsweep.editors.ft import FtSpec
from editsweep.model.patch import Dense, Patch
from editsweep.run.drive import WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore

EDITS = Path(__file__).parents[1] / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [{{name: ft, steps: 1}}]
datasets: [{{name: "{EDITS}", limit: 4}}]
metrics: {{max_new_tokens: 2}}
unit_size: 2
"""
SPOILT = "Lyon"


class Spoiling:
    """Multiplies every number of one edit's change."""

    def __init__(self, inner, factor):
        self.inner, self.factor = inner, factor

    def edit(self, groups, seed):
        done = self.inner.edit(groups, seed)
        return [
            self.spoilt(edited) if group[0].subject == SPOILT else edited
            for group, edited in zip(groups, done, strict=True)
        ]

    def spoilt(self, edited):
        adds = {n: Dense(c.delta() * self.factor) for n, c in edited.patch.adds.items()}
        return replace(edited, patch=Patch(adds))


def run(folder, text=SWEEP):
    return run_sweep(parse_sweep(text), folder, RunOptions("inline", threads=1, record=False))


def rows(folder, kind):
    return SweepStore(folder).table(kind).to_pylist()


def numbers(folder, without):
    """All values but those of one edit, by what they are."""
    names = ("edit_id", "probe_id", "metric", "protocol", "phase", "status")
    found = [row for row in rows(folder, "measurements") if row["edit_id"] != without]
    return {tuple(row[name] for name in names): row["value"] for row in found}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "t"
    assert run(folder).exit_code == 0
    return folder


@pytest.fixture
def spoil(monkeypatch):
    def by(factor):
        build = FtSpec.build
        monkeypatch.setattr(FtSpec, "build", lambda *args: Spoiling(build(*args), factor))

    return by


def check_sound(folder, whole, edit_id):
    """The others are an undisturbed run's, and what is published holds finite numbers only."""
    found, wanted = (numbers(place, edit_id) for place in (folder, whole))
    assert found == pytest.approx(wanted, abs=1e-4)
    values = [row["value"] for row in rows(folder, "measurements") if row["value"] is not None]
    assert all(map(math.isfinite, values))
    with (folder / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
        board = [text.casefold() for line in csv.reader(file) for text in line]
    assert len(board) > 20
    assert not {"nan", "inf", "-inf"} & set(board)
    assert ">nan<" not in (folder / "report.html").read_text(encoding="utf-8").casefold()


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_change_that_is_not_finite_is_a_failed_row(tmp_path, whole, spoil, factor):
    spoil(factor)
    result = run(tmp_path / "t")
    assert (result.exit_code, result.edits_failed) == (WITH_FAILURES, 1)
    (lost,) = (row for row in rows(tmp_path / "t", "edits") if row["status"] == "failed")
    assert (lost["subject"], lost["error_kind"]) == (SPOILT, "not_finite")
    check_sound(tmp_path / "t", whole, lost["edit_id"])


def test_an_answer_without_finite_numbers_lacks_values_and_says_so(tmp_path, spoil):
    # Its norms subtract a mean, so what overflows becomes NaN.
    text = SWEEP.replace("tiny-llama", "tiny-gpt2")
    text = text.replace("metrics: {", "metrics: {axes: [reliability, locality, fluency], ")
    assert run(tmp_path / "whole", text).exit_code == 0
    spoil(1e38)
    run(tmp_path / "t", text)
    (edit,) = (row for row in rows(tmp_path / "t", "edits") if row["subject"] == SPOILT)
    assert edit["status"] == "ok"
    own = [r for r in rows(tmp_path / "t", "measurements") if r["edit_id"] == edit["edit_id"]]
    lacking = {row["metric"] for row in own if row["status"] == "not_finite"}
    assert lacking == {"kl", "perplexity", "preference_magnitude"}
    assert {row["status"] for row in own if row["metric"] == "ngram_entropy"} == {"ok"}
    check_sound(tmp_path / "t", tmp_path / "whole", edit["edit_id"])
