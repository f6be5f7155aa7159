"""Ten thousand units of one edit through the real dispatch and store: none is lost, none twice."""

import json
from collections import Counter

import pyarrow as pa
import pytest

from editsweep.core import schema
from editsweep.run.dispatch import Dispatch
from editsweep.run.plan import make_plan
from editsweep.run.progress import Silent
from editsweep.run.resolve import resolve
from editsweep.run.stop import stoppable
from editsweep.run.sweep import parse_sweep
from editsweep.run.tasks import BaseTask, Outcome
from editsweep.store.store import SweepStore

EDITS, SEEDS = 1000, 10
UNITS = EDITS * SEEDS
SWEEP = """
name: t
models: [tiny-llama]
editors: [none]
datasets: [{{name: "{data}"}}]
seeds: {seeds}
metrics: {{axes: [reliability], generate: []}}
unit_size: 1
"""


class Prepared:
    """Four workers that do nothing: what a task comes to is ready when it is given out."""

    def __init__(self):
        self.outcomes, self.given = {}, []

    def idle(self):
        return [worker for worker in range(4) if worker not in self.outcomes]

    def submit(self, worker, task):
        self.given.append(task.task_id)
        self.outcomes[worker] = Outcome(task.task_id, prepared(task), 0.0, "h")

    def wait(self, seconds):
        done, self.outcomes = list(self.outcomes.values()), {}
        return done

    def drop(self, task_id):
        raise AssertionError("no task has a second copy")


ROW = {
    "sweep_id": "s",
    "cell_id": "c" * 32,
    "unit_id": "u" * 32,
    "edit_id": "e" * 32,
    "position": 0,
    "group": 0,
    "prompt": "",
    "target_new": "",
    "relation": "",
    "case": "",
    "probe_id": "p",
    "axis": "reliability",
    "facet": "",
    "role": "answer",
    "text": "x",
    "token_ids": [1],
    "logprobs": [-1.0],
    "argmax": [1],
    "said": "y",
    "spoke": False,
    "status": "ok",
    "edit_s": 0.0,
}


def template(kind, rows):
    """An Arrow file that is not compressed, so that ids of the same length can be put in."""
    row = {name: ROW[name] for name in kind.names if name in ROW}
    made, sink = schema.table(kind, [row] * rows), pa.BufferOutputStream()
    with pa.ipc.new_file(sink, kind) as writer:
        writer.write_table(made)
    return sink.getvalue().to_pybytes()


BASE = template(schema.BASE, 1)
PARTS = {kind: template(of, int(kind == "edits")) for kind, of in schema.PARTS.items()}


def prepared(task):
    """What the unedited model says, or a unit with one edit and no numbers."""
    if isinstance(task, BaseTask):
        return {"base": BASE.replace(b"e" * 32, task.requests[0].edit_id.encode())}
    edit, ids = PARTS["edits"], task.ids
    edit_id = task.groups[0][0].edit_id
    for letter, text in (("c", ids.cell_id), ("u", ids.unit_id), ("e", edit_id)):
        edit = edit.replace(letter.encode() * 32, text.encode())
    return PARTS | {"edits": edit}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    data = tmp_path_factory.mktemp("many") / "own.jsonl"
    lines = [{"subject": f"S{i}", "prompt": "{} is in", "target_new": "J"} for i in range(EDITS)]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return make_plan(resolve(parse_sweep(SWEEP.format(data=data, seeds=list(range(SEEDS))))))


@pytest.mark.timeout(300)
def test_ten_thousand_units_are_each_kept_once_and_going_on_does_nothing(tmp_path, plan):
    folder, executor = tmp_path / "t", Prepared()
    with SweepStore(folder).locked() as store, stoppable(print) as stop:
        work = Dispatch(plan, store, Silent(), stop)
        assert work.units_left == len(plan.units) == UNITS
        work.run(executor)
        assert work._queue.over
    assert not executor.outcomes
    assert Counter(executor.given) == Counter([*plan.bases, *(u.unit_id for u in plan.units)])
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == UNITS
    store = SweepStore(folder)
    assert store.committed().keys() == {unit.unit_id for unit in plan.units}
    edits = store.tables(kinds=["edits"], narrow={"edits": ["cell_id", "edit_id"]})["edits"]
    wanted = {(c, r.edit_id) for c, cell in plan.cells.items() for r in cell.records.data.requests}
    assert len(wanted) == edits.num_rows == UNITS
    assert {tuple(row.values()) for row in edits.to_pylist()} == wanted
    with SweepStore(folder).locked() as store, stoppable(print) as stop:
        again, idle = Dispatch(plan, store, Silent(), stop), Prepared()
        assert again.units_left == 0
        again.run(idle)
    assert idle.given == []
    assert (folder / "manifest.jsonl").read_text().splitlines() == lines
