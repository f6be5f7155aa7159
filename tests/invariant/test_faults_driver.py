"""A driver killed at any step, and the same command again: the same tables to the last byte.

EDITSWEEP_TEST_SEED chooses other steps.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from editsweep.store.store import SweepStore

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("EDITSWEEP_TEST_SEED", "0"))
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [{{name: ft, steps: 1}}, {{name: rome, moment: identity, contexts: 2, steps: 1}}]
datasets: [{{name: "{ROOT / "tests" / "data" / "edits.jsonl"}", limit: 4}}]
metrics: {{max_new_tokens: 2}}
unit_size: 2
"""
CHAIN = SWEEP.replace(", {name: rome, moment: identity, contexts: 2, steps: 1}", "") + (
    "regimes: [{sequential: {size: 1, every: 2, sample: 2}}]\n"
)

# Reads orders, does each in a fork of itself that has imported everything and used nothing, and
# kills that at the step `at` of those by which a run touches the disk, before or after it is done.
DRIVER = """
import json, os, signal, sys, traceback
from pathlib import Path
import accelerate, jinja2, matplotlib.figure, polars, scipy.stats, statsmodels.stats.proportion
import transformers.models.llama.modeling_llama
from editsweep.editors import ft, rome
from editsweep.report import html
from editsweep.run import drive, inline, publish, worker
from editsweep.run.sweep import parse_sweep

STEPS = ("fsync", "rename", "replace", "unlink", "mkdir", "rmdir", "ftruncate")

def run(text, folder, at, after):
    steps = []
    def dying(name, real):
        def call(*args, **more):
            steps.append(name)
            here = len(steps) == at
            if here and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return real(*args, **more)
            finally:  # also of a step that is refused, as making a folder that is there
                if here:
                    os.kill(os.getpid(), signal.SIGKILL)
        return call
    for name in STEPS:
        setattr(os, name, dying(name, getattr(os, name)))
    folder = Path(folder)
    options = drive.RunOptions("inline", threads=1, cache=folder.parent / "cache", record=False)
    code = drive.run_sweep(parse_sweep(text), folder, options).exit_code
    (folder.parent / "steps").write_text(str(len(steps)))
    return code

for order in sys.stdin:
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = run(*json.loads(order))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def drive():
    """Runs a sweep in a folder and dies at a step (0: never); the exit code."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRIVER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) as driver:

        def order(text, folder, at=0, after=False):
            driver.stdin.write(json.dumps([text, str(folder), at, after]) + "\n")
            driver.stdin.flush()
            return int(driver.stdout.readline())

        yield order
        driver.stdin.close()


@pytest.fixture(scope="module")
def whole(drive, tmp_path_factory):
    """Undisturbed runs of both sweeps: their folders and how many steps they took."""
    found = {}
    for text in (SWEEP, CHAIN):
        folder = tmp_path_factory.mktemp("whole") / "t"
        assert drive(text, folder) == 0
        found[text] = folder, int((folder.parent / "steps").read_text())
    return found


def check(results, folder, undisturbed):
    """The results are those of an undisturbed run, each unit is kept once, nothing lies about."""
    wanted = results(undisturbed)
    assert results(folder) == wanted
    store = SweepStore(folder)
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == len(store.committed()) == len(list((folder / "parts").iterdir()))
    assert store.warnings == ()
    edits = [(row["cell_id"], row["edit_id"]) for row in store.table("edits").to_pylist()]
    assert len(edits) == len(set(edits)) == len(wanted["edits"])
    assert (folder / "report.html").stat().st_size > 1000
    assert not [path for path in folder.rglob("*.tmp/*") if path.is_file()]


KILLS = 4


@pytest.mark.parametrize("part", range(KILLS))
@pytest.mark.parametrize("text", [SWEEP, CHAIN], ids=["single", "sequence"])
def test_killed_at_any_step_and_again_while_going_on(tmp_path, drive, whole, text, part, results):
    undisturbed, steps = whole[text]
    draw = Random(f"{SEED} {part}")
    at = 1 + (part * steps + draw.randrange(steps)) // KILLS
    folder = tmp_path / "t"
    assert drive(text, folder, at, draw.random() < 0.5) == -signal.SIGKILL
    assert drive(text, folder, 1 + draw.randrange(steps // 2), True) in (0, -signal.SIGKILL)
    assert drive(text, folder) == 0
    check(results, folder, undisturbed)
