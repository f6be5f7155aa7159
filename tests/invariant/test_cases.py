"""However a sweep over cases is cut and interrupted, its results are the same."""

import json
import math
import shutil
from dataclasses import replace

import pytest

from editsweep.core.types import Probe
from editsweep.data.own_format import write_edits
from editsweep.data.published import remade
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
from editsweep.store.store import SweepStore
from editsweep.testing import tiny_requests

NAMES = ["1", "1", "1", "2", "2", "", "3", "3"]
EDITORS = "[none, {name: ft, steps: 3}, {name: rome, moment: identity, contexts: 2, steps: 3}]"
KEYS = ("cell_id", "edit_id", "probe_id", "metric", "protocol", "phase", "status")


@pytest.fixture(scope="module")
def edits(tmp_path_factory):
    """Eight edits in three cases and one of its own; the last of a case asks about all of it."""
    requests = []
    for place, (request, case) in enumerate(zip(tiny_requests(8), NAMES, strict=True)):
        hops = [
            Probe.of("portability", f"{start} {request.subject} is", ["Rome"], facet="multi_hop")
            for start in ("The home of", "Where one finds")
            if case and NAMES[place + 1 : place + 2] != [case]
        ]
        own = replace(request, case=case)
        requests.append(remade(own, own.target_new, (*own.probes, *hops)))
    path = tmp_path_factory.mktemp("cases") / "cases.jsonl"
    write_edits(requests, path)
    return path


def run(edits, folder, *settings):
    text = f"name: t\nmodels: [tiny-llama]\neditors: {EDITORS}\ndatasets: ['{edits}']\n"
    options = RunOptions("inline", threads=1, cache=folder.parent / "cache", record=False)
    sweep = parse_sweep(text, ["metrics={max_new_tokens: 3, generate: []}", *settings])
    assert run_sweep(sweep, folder, options).exit_code == 0
    return SweepStore(folder)


def values(store):
    rows = store.table("measurements").to_pylist()
    return {tuple(row[key] for key in KEYS): row["value"] for row in rows}


@pytest.fixture(scope="module")
def whole(edits, tmp_path_factory):
    return run(edits, tmp_path_factory.mktemp("whole") / "t", "unit_size=3")


def test_each_case_is_one_job(whole):
    for cell in json.loads((whole.folder / "plan.json").read_text())["cells"]:
        rows = [r for r in whole.table("edits").to_pylist() if r["cell_id"] == cell["cell_id"]]
        rows.sort(key=lambda row: row["position"])
        assert [(r["position"], r["group"]) for r in rows] == list(
            enumerate([0, 0, 0, 1, 1, 2, 3, 3])
        )
        assert [r["case"] for r in rows] == NAMES
    board = (whole.folder / "cases.csv").read_text().splitlines()
    assert len(board) == 1 + 3 * 3 * 2
    assert '<section id="cases">' in (whole.folder / "report.html").read_text()


@pytest.mark.parametrize("unit_size", [1, 16])
def test_the_size_of_units_does_not_change_the_numbers(edits, whole, tmp_path, unit_size):
    other, expected = values(run(edits, tmp_path / "t", f"unit_size={unit_size}")), values(whole)
    assert other.keys() == expected.keys()
    for key, value in expected.items():
        assert math.isclose(other[key], value, rel_tol=1e-4, abs_tol=1e-4), key


def by_label(store):
    """The values, with the cell's label in place of its id."""
    cells = json.loads((store.folder / "plan.json").read_text())["cells"]
    labels = {cell["cell_id"]: cell["label"] for cell in cells}
    return {(labels[key[0]], *key[1:]): value for key, value in values(store).items()}


def test_a_case_is_the_same_without_the_others(edits, whole, tmp_path):
    alone = by_label(run(edits, tmp_path / "t", "datasets[0].limit=4"))
    expected = by_label(whole)
    assert len({key[1] for key in alone}) == 5  # the limit takes what is left of the second case
    for key, value in alone.items():
        assert math.isclose(expected[key], value, rel_tol=1e-4, abs_tol=1e-4), key


def test_a_sweep_that_lost_units_goes_on_to_the_same_tables(edits, whole, tmp_path):
    folder = tmp_path / "t"
    shutil.copytree(whole.folder, folder)
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:2]))
    for name in ("cases.csv", "leaderboard.csv"):
        (folder / name).unlink()
    run(edits, folder, "unit_size=3")
    for name in ("cases.csv", "leaderboard.csv"):
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes()
