"""Several real Ray nodes without a shared file system: what one has made reaches the others."""

import json
from collections import Counter
from pathlib import Path

import pytest

from editsweep.run.cluster import environment
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.progress import Silent
from editsweep.run.sweep import parse_sweep

pytestmark = [
    pytest.mark.cluster,
    # Of Ray's own way to start nodes.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ROOT = Path(__file__).parents[2]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
META = "assets/*/meta.json"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: rome, moment: "world:train", contexts: 2, steps: 3}}]
datasets: ["{EDITS}"]
metrics: {{max_new_tokens: 3}}
unit_size: 1
"""


class Events(Silent):
    """Calls `act` once, when so many edits are done."""

    def __init__(self, at, act):
        self.at, self.act = at, act

    def update(self, now):
        if self.act is not None and now.done >= self.at:
            act, self.act = self.act, None
            act()


@pytest.fixture
def home(tmp_path):
    """The driver's cache, which no node sees."""
    with environment({"EDITSWEEP_CACHE": str(tmp_path / "home")}):
        yield tmp_path / "home"


def cache(tmp_path, name):
    """The settings of a node with a cache of its own."""
    return {"EDITSWEEP_CACHE": str(tmp_path / name), "PYTHONPATH": str(ROOT / "pipeline")}


def options(**changes):
    return RunOptions(threads=1, record=False, **changes)


def makers(*caches):
    """Who made each asset, as all of these caches have it."""
    found = [
        {path.parent.name: json.loads(path.read_text())["maker"] for path in cache.glob(META)}
        for cache in caches
    ]
    assert found[0]
    assert found == [found[0]] * len(caches)
    return found[0]


def test_an_asset_is_made_once_and_reaches_every_node(tmp_path, nodes, home, results):
    inline, folder = tmp_path / "i" / "t", tmp_path / "t"
    with environment({"EDITSWEEP_CACHE": str(tmp_path / "inline")}):
        run_sweep(parse_sweep(SWEEP), inline, options(executor="inline"))
    there = [nodes.add(cache(tmp_path, name)) for name in ("a", "b")]
    try:
        result = run_sweep(parse_sweep(SWEEP), folder, options(address=nodes.address, workers=2))
    finally:
        for node in there:
            nodes.remove(node)
    assert (result.exit_code, result.edits_failed) == (0, 0)
    assert results(folder) == results(inline)
    assert (folder / "leaderboard.csv").read_bytes() == (inline / "leaderboard.csv").read_bytes()
    made = makers(home, tmp_path / "a", tmp_path / "b")
    assert list((home / "drivers").iterdir()) == []
    # Of another sweep on a new node, it is the driver that has it.
    again = tmp_path / "again"
    node = nodes.add(cache(tmp_path, "c"))
    try:
        run_sweep(parse_sweep(SWEEP), again, options(address=nodes.address, workers=1))
    finally:
        nodes.remove(node)
    assert results(again) == results(folder)
    assert makers(home, tmp_path / "c") == made


def test_a_lost_node_changes_nothing(tmp_path, nodes, home, results):
    inline, folder = tmp_path / "i" / "t", tmp_path / "t"
    run_sweep(parse_sweep(SWEEP), inline, options(executor="inline"))
    there = [nodes.add(cache(tmp_path, name)) for name in ("a", "b")]
    progress = Events(4, lambda: nodes.remove(there.pop(0)))
    try:
        chosen = options(address=nodes.address)
        result = run_sweep(parse_sweep(SWEEP), folder, chosen, progress)
    finally:
        for node in there:
            nodes.remove(node)
    assert (progress.act, result.exit_code) == (None, 0)
    assert results(folder) == results(inline)
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    units = Counter(json.loads(line)["unit_id"] for line in lines)
    assert set(units.values()) == {1}
    assert len(units) == 16
