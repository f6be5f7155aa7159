"""Questions that count only where the unedited model knows what they need."""

from pathlib import Path

import pytest

from editsweep.core.types import EditRequest, Probe
from editsweep.editors.base import Edited
from editsweep.editors.ft import FtSpec
from editsweep.editors.none import NoneSpec
from editsweep.errors import EditError
from editsweep.run.chain import Chain, Checkpoint, go_on
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.evaluate import (
    AskSettings,
    UnitIds,
    ask_base,
    evaluate,
    failed_unit,
    joined,
)
from editsweep.run.failures import unasked_unit
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore
from editsweep.testing import tiny_model

SETTINGS, IDS = AskSettings((), 2), UnitIds("s", "c", "u")
ASKED = "The city of Ada is"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def request_(model):
    """Asks one thing with a condition that the model meets, and one with a condition more."""
    question = Probe.of("condition", ASKED)
    base = ask_base(model, [EditRequest.of(None, "x", "y", None, [question])], SETTINGS).to_pylist()
    said = next(row["text"] for row in base if row["probe_id"] == question.probe_id)
    known = Probe.of("condition", ASKED, [said.strip()])
    unknown = Probe.of("condition", ASKED, ["Timbuktu"])
    needs = {"met": [known.probe_id], "unmet": [known.probe_id, unknown.probe_id]}
    probes = [
        Probe.of(axis, f"The {axis} of Ada", ["Rome"], ["Paris"], facet, needs[facet])
        for axis in ("portability", "locality")
        for facet in needs
    ]
    return EditRequest.of("Ada", "{} lives in", "Rome", "Paris", [known, unknown, *probes])


def rows(tables, facet):
    return [row for row in tables["measurements"].to_pylist() if row["facet"] == facet]


def test_a_condition_is_asked_before_and_decides(model, request_):
    base = ask_base(model, [request_], SETTINGS)
    editor = NoneSpec().build(model, {})
    tables = evaluate(model, editor, [[request_]], base, IDS, 0, SETTINGS)
    conditions = [r for r in tables["measurements"].to_pylist() if r["axis"] == "condition"]
    assert {row["phase"] for row in conditions} == {"pre"}
    exact = [row["value"] for row in conditions if row["metric"] == "exact_match"]
    assert exact == [1.0, 0.0]
    met, unmet = rows(tables, "met"), rows(tables, "unmet")
    assert {row["status"] for row in met} == {"ok"}
    assert {(row["status"], row["value"]) for row in unmet} == {("condition unmet", None)}
    names = ("axis", "metric", "protocol", "phase")
    assert [[r[n] for n in names] for r in met] == [[r[n] for n in names] for r in unmet]
    assert {row["phase"] for row in unmet} == {"pre", "post"}
    kept = {row["probe_id"]: row["needs"] for row in tables["answers"].to_pylist()}
    assert kept == {probe.probe_id: list(probe.needs) for probe in request_.all_probes}


def test_a_failed_edit_has_no_condition_after_it(model, request_):
    class Failing:
        def edit(self, groups, seed):
            return [Edited(error=EditError("refused", "no")) for _ in groups]

    base = ask_base(model, [request_], SETTINGS)
    made = evaluate(model, Failing(), [[request_]], base, IDS, 0, SETTINGS)
    lost = failed_unit([[request_]], base, IDS, "refused", "no")
    assert lost["measurements"] == made["measurements"]
    assert {row["status"] for row in rows(made, "met")} == {"ok", "refused"}
    assert {row["status"] for row in rows(made, "unmet")} == {"condition unmet"}
    unasked = unasked_unit([[request_]], IDS, "refused", "no")["measurements"].to_pylist()
    assert "condition" not in {row["axis"] for row in unasked}


def test_a_sequence_does_not_ask_again_what_does_not_count(model, request_):
    later = EditRequest.of("Bao", "{} lives in", "Rome")
    base = ask_base(model, [request_, later], SETTINGS)
    point = Checkpoint([[later]], [request_], base, IDS, 0, SETTINGS)
    _, parts = go_on(model, FtSpec(steps=1).build(model, {}), Chain(), point)
    retained = [r for r in joined(parts)["measurements"].to_pylist() if r["phase"] == "retained"]
    assert {(r["axis"], r["facet"], r["status"]) for r in retained} == {
        ("reliability", "", "ok"),
        ("portability", "met", "ok"),
        ("portability", "unmet", "condition unmet"),
    }


def test_a_sweep_over_published_conditions_tells_what_did_not_count(tmp_path):
    file = Path(__file__).parents[2] / "data" / "rippleedits.json"
    text = (
        "name: t\nmodels: [tiny-llama]\neditors: [none]\n"
        f"datasets: ['rippleedits@{file}']\nmetrics: {{max_new_tokens: 2, axes: [locality]}}\n"
    )
    options = RunOptions("inline", threads=1, cache=tmp_path / "cache", record=False)
    assert run_sweep(parse_sweep(text), tmp_path / "t", options).exit_code == 0
    store = SweepStore(tmp_path / "t")
    rows = store.table("measurements").to_pylist()
    assert {row["axis"] for row in rows} == {"reliability", "locality", "condition"}
    unmet = {row["facet"] for row in rows if row["status"] == "condition unmet"}
    assert unmet == {"relation_specificity"}
    assert "<dt>condition</dt>" in (tmp_path / "t" / "report.html").read_text(encoding="utf-8")
