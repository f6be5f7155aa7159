"""A run with a scripted executor: what dies, what raises, and what the folder holds afterwards."""

import json
import signal
from pathlib import Path

import pytest

from editsweep.errors import ConfigError, ModelError, StoreError, WorkerError
from editsweep.run import drive
from editsweep.run.budget import Budget
from editsweep.run.drive import FAILED, INTERRUPTED, WITH_FAILURES, RunOptions, run_sweep
from editsweep.run.inline import InlineExecutor
from editsweep.run.progress import Silent
from editsweep.run.retry import Retried, take_back
from editsweep.run.status import failed_edits, read_status
from editsweep.run.sweep import parse_sweep
from editsweep.run.tasks import AssetTask, BaseTask, Died, EditTask, Failure, Outcome
from editsweep.store.store import SweepStore

EDITS = Path(__file__).parents[2] / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: ft, steps: 1}}]
datasets: [{{name: "{EDITS}", limit: 4}}]
unit_size: 2
metrics: {{max_new_tokens: 2}}
"""


class Scripted(InlineExecutor):
    """`fault(task, attempt)` says what comes of a task instead, if anything; two workers."""

    def __init__(self, fault=None, cache=None):
        super().__init__(1, cache)
        self.fault = fault or (lambda _task, _attempt: None)
        self.given = []
        self.tasks = {}

    def idle(self):
        return [worker for worker in (0, 1) if worker not in self.tasks]

    def submit(self, worker, task):
        self.given.append(task.task_id)
        self.tasks[worker] = task

    def wait(self, seconds):
        _, task = self.tasks.popitem()
        event = self.fault(task, self.given.count(task.task_id))
        return [event or self._worker.run(task)]


def start(folder, monkeypatch, fault=None, settings=(), progress=None, **options):
    executor = Scripted(fault, folder.parent / "cache")
    monkeypatch.setattr(drive, "_executor", lambda *_: executor)
    sweep = parse_sweep(SWEEP, settings)
    chosen = RunOptions("inline", record=False, **options)
    return run_sweep(sweep, folder, chosen, progress), executor


def events(folder):
    lines = (folder / "progress.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def edit_task(name):
    return lambda task: isinstance(task, EditTask) and task.spec.name == name


def test_a_finished_sweep_is_left_as_it_is(tmp_path, monkeypatch):
    first, _ = start(tmp_path / "t", monkeypatch)
    assert (first.exit_code, first.units, first.units_now, first.edits) == (0, 4, 4, 8)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "t").rglob("*.arrow")}
    second, executor = start(tmp_path / "t", monkeypatch)
    assert (second.exit_code, second.units_now, executor.given) == (0, 0, [])
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "t").rglob("*.arrow")} == before
    assert [e["event"] for e in events(tmp_path / "t")].count("finished") == 1


def test_base_answers_are_made_once_for_all_editors(tmp_path, monkeypatch):
    _, executor = start(tmp_path / "t", monkeypatch)
    assert len(executor.given) == len(set(executor.given)) == 2 + 4
    assert len(list((tmp_path / "t" / "base").glob("*.arrow"))) == 2


def test_the_log_tells_how_long_everything_took(tmp_path, monkeypatch):
    rome = "editors=[{name: rome, moment: identity, contexts: 2, steps: 1}]"
    for name, kinds in (("a", ["asset", "base", "base"]), ("b", ["base", "base"])):
        start(tmp_path / name, monkeypatch, settings=[rome])  # b finds what a has made
        told = events(tmp_path / name)
        prepared = [event for event in told if event["event"] == "prepared"]
        assert sorted(event["kind"] for event in prepared) == kinds
        assert {e["edits"] for e in prepared if e["kind"] == "base"} == {2}
        done = [event for event in told if event["event"] == "committed"]
        assert {event["device"] for event in (*prepared, *done)} == {"cpu, 1 thread"}
        assert all(0 < e["edit_s"] < e["work_s"] <= e["seconds"] for e in done)


def test_another_sweep_in_the_same_folder_is_refused(tmp_path, monkeypatch):
    start(tmp_path / "t", monkeypatch)
    with pytest.raises(StoreError, match="unit_size"):
        start(tmp_path / "t", monkeypatch, settings=["unit_size=1"])


def test_a_folder_without_results_can_be_another_sweeps(tmp_path, monkeypatch):
    def refuse(task, _attempt):
        return Outcome(task.task_id, {}, 0, "", Failure.of(ConfigError("no such layer")))

    with pytest.raises(ConfigError, match="no such layer"):
        start(tmp_path / "t", monkeypatch, refuse)
    assert events(tmp_path / "t")[-1]["event"] == "failed"
    assert start(tmp_path / "t", monkeypatch, settings=["unit_size=1"])[0].exit_code == 0


@pytest.mark.parametrize("error", [ConfigError, ModelError])
def test_errors_of_the_setup_end_the_run(tmp_path, monkeypatch, error):
    def refuse(task, _attempt):
        return Outcome(task.task_id, {}, 0, "", Failure.of(error("mend this")))

    with pytest.raises(error, match="mend this"):
        start(tmp_path / "t", monkeypatch, refuse)


def test_a_worker_that_dies_once_changes_nothing(tmp_path, monkeypatch):
    healthy, _ = start(tmp_path / "a", monkeypatch)
    died, executor = start(
        tmp_path / "b",
        monkeypatch,
        lambda task, attempt: Died(task.task_id, "gone") if attempt == 1 else None,
    )
    assert (died.exit_code, died.edits_failed) == (0, 0)
    assert len(executor.given) == 2 * len(set(executor.given))
    boards = [(f / "leaderboard.csv").read_bytes() for f in (healthy.folder, died.folder)]
    assert boards[0] == boards[1]
    lines = SweepStore(died.folder).committed().values()
    assert {line.attempt for line in lines} == {2}


def test_a_unit_that_kills_its_worker_alone_becomes_failure_rows(tmp_path, monkeypatch):
    poison = []

    def fault(task, attempt):
        if edit_task("ft")(task) and task.ids.first_position == 0:
            poison.append(attempt)
            return Died(task.task_id, "gone")
        return None

    result, _ = start(tmp_path / "t", monkeypatch, fault)
    assert poison == [1, 2, 3]
    assert (result.exit_code, result.edits_failed) == (WITH_FAILURES, 2)
    found = read_status(result.folder)
    assert found["state"] == "complete with failures"
    assert found["errors"] == {"worker_died": 2}
    assert [(c["label"], c["failed"]) for c in found["cells"]] == [("none", 0), ("ft", 2)]
    lost = SweepStore(result.folder).table("measurements").to_pylist()
    lost = [row for row in lost if row["status"] == "worker_died"]
    assert lost
    assert {(row["phase"], row["value"]) for row in lost} == {("post", None)}


def test_a_unit_that_raises_gets_two_more_chances(tmp_path, monkeypatch):
    def fault(task, attempt):
        error = Failure.of(RuntimeError("boom"))
        wanted = edit_task("ft")(task) and (attempt <= 2 or task.ids.first_position == 2)
        return Outcome(task.task_id, {}, 0, "", error) if wanted else None

    result, executor = start(tmp_path / "t", monkeypatch, fault)
    assert (result.exit_code, result.edits_failed) == (WITH_FAILURES, 2)
    assert max(executor.given.count(task_id) for task_id in executor.given) == 3
    rows = SweepStore(result.folder).table("edits").to_pylist()
    assert {r["error_text"] for r in rows if r["status"] == "failed"} == {"boom"}
    assert (
        "RuntimeError" in next(e for e in events(result.folder) if e["event"] == "raised")["trace"]
    )


def test_a_kind_of_error_is_said_once_and_counted(tmp_path, monkeypatch):
    def fault(task, _attempt):
        return Died(task.task_id, "gone") if edit_task("ft")(task) else None

    progress = Interrupt(times=0)
    result, _ = start(tmp_path / "t", monkeypatch, fault, progress=progress)
    assert sum("A first edit failed: worker_died" in said for said in progress.said) == 1
    (kind,) = result.error_kinds
    assert (kind.kind, kind.edits, kind.cell) == ("worker_died", 4, "ft")
    (event,) = [event for event in events(tmp_path / "t") if event["event"] == "errors"]
    (told,) = event["kinds"]
    assert told == read_status(result.folder)["error_kinds"][0]
    rows = failed_edits(result.folder, "worker_died")
    assert [row["position"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["edit_id"] == told["edit_id"]


def test_units_whose_base_answers_cannot_be_had_are_failure_rows(tmp_path, monkeypatch):
    def fault(task, _attempt):
        if isinstance(task, BaseTask) and task.requests[0].subject == "Lyon":
            return Outcome(task.task_id, {}, 0, "", Failure.of(RuntimeError("boom")))
        return None

    result, _ = start(tmp_path / "t", monkeypatch, fault)
    assert (result.exit_code, result.edits_failed) == (WITH_FAILURES, 4)
    assert read_status(result.folder)["errors"] == {"not_prepared": 4}


def test_units_whose_asset_cannot_be_made_are_failure_rows(tmp_path, monkeypatch):
    def fault(task, _attempt):
        if isinstance(task, AssetTask):
            return Outcome(task.task_id, {}, 0, "", Failure.of(RuntimeError("boom")))
        return None

    settings = ["editors[1]={name: rome, moment: identity, contexts: 2, steps: 1}"]
    result, _ = start(tmp_path / "t", monkeypatch, fault, settings)
    assert read_status(result.folder)["errors"] == {"not_prepared": 4}
    rows = SweepStore(result.folder).table("measurements").to_pylist()
    assert {r["phase"] for r in rows if r["status"] == "not_prepared"} == {"post"}


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("worker_died", "memory for the model"),
        ("gpu_failed", "nvidia-smi"),
        ("timeout", "too short"),
    ],
)
def test_workers_that_all_die_at_the_start_end_the_run(tmp_path, monkeypatch, kind, hint):
    with pytest.raises(WorkerError, match=f"no task was finished, the last: gone.*{hint}"):
        start(tmp_path / "t", monkeypatch, lambda task, _: Died(task.task_id, "gone", kind))
    assert start(tmp_path / "t", monkeypatch)[0].exit_code == 0


class Interrupt(Silent):
    """Presses Ctrl-C `times` times once some edits are done."""

    def __init__(self, times):
        self.times = times
        self.said = []

    def update(self, now):
        for _ in range(self.times if now.done else 0):
            self.times -= 1
            signal.raise_signal(signal.SIGINT)

    def say(self, message):
        self.said.append(message)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_a_sweep_that_goes_on(tmp_path, monkeypatch, times):
    progress = Interrupt(times)
    result, _ = start(tmp_path / "t", monkeypatch, progress=progress)
    assert result.exit_code == INTERRUPTED
    assert 0 < result.units_now < 4
    assert progress.said[0].startswith("Stopping")
    assert read_status(tmp_path / "t")["state"] == "incomplete"
    rest, _ = start(tmp_path / "t", monkeypatch)
    assert (rest.exit_code, rest.units_now) == (0, 4 - result.units_now)
    whole, _ = start(tmp_path / "whole", monkeypatch)
    assert (rest.folder / "leaderboard.csv").read_bytes() == (
        whole.folder / "leaderboard.csv"
    ).read_bytes()


def test_a_crash_before_the_report_is_made_up_for(tmp_path, monkeypatch):
    start(tmp_path / "t", monkeypatch)
    log = tmp_path / "t" / "progress.jsonl"
    log.write_text("".join(line + "\n" for line in log.read_text().splitlines()[:-1]))
    (tmp_path / "t" / "report.html").unlink()
    result, executor = start(tmp_path / "t", monkeypatch)
    assert (result.exit_code, executor.given) == (0, [])
    assert (tmp_path / "t" / "report.html").exists()


@pytest.mark.filterwarnings("ignore")  # mlflow calls what SQLAlchemy is about to drop
def test_a_record_that_fails_does_not_fail_the_sweep(tmp_path):
    options = RunOptions("inline", threads=1, tracking_uri="sqlite:////proc/no/such.db")
    result = run_sweep(parse_sweep(SWEEP, ["editors=[none]"]), tmp_path / "t", options)
    assert result.exit_code == 0
    assert result.record_error
    assert events(result.folder)[-1] | {"time": ""} == {
        "time": "",
        "event": "finished",
        "recorded": False,
    }


def test_inline_is_one_worker(tmp_path):
    with pytest.raises(ConfigError, match="one worker, not 2"):
        run_sweep(parse_sweep(SWEEP), tmp_path / "t", RunOptions("inline", workers=2))


def test_status_of_a_folder_that_is_none(tmp_path):
    with pytest.raises(StoreError, match=r"no plan\.json"):
        read_status(tmp_path)


def broken(task, _attempt):
    """Every ft unit raises, each time."""
    if edit_task("ft")(task):
        return Outcome(task.task_id, {}, 0.0, "", Failure("RuntimeError", "no memory", "", False))
    return None


def test_too_many_failures_end_the_run_and_nothing_is_lost(tmp_path, monkeypatch):
    folder = tmp_path / "t"
    result, _ = start(folder, monkeypatch, broken, max_failures=Budget.parse("10%"))
    assert result.exit_code == FAILED
    assert "2 of 8 edits failed, more than --max-failures 10%" in result.over_budget
    assert result.units_now == 3
    assert "over_budget" in [event["event"] for event in events(folder)]
    # What failed before counts: the same command gives up at once, with a larger budget it goes on.
    again, _ = start(folder, monkeypatch, broken, max_failures=Budget.parse("1"))
    assert (again.exit_code, again.units_now) == (FAILED, 0)
    done, _ = start(folder, monkeypatch, broken, max_failures=Budget.parse("50%"))
    assert (done.exit_code, done.edits_failed, done.over_budget) == (WITH_FAILURES, 4, "")


def test_what_failed_is_done_again_and_ends_in_the_same_table(tmp_path, monkeypatch):
    good, bad = tmp_path / "good", tmp_path / "bad"
    start(good, monkeypatch)
    assert start(bad, monkeypatch, broken)[0].edits_failed == 4
    with pytest.raises(ConfigError, match="did you mean 'RuntimeError'"):
        take_back(bad, ["RuntimeErrors"])
    assert take_back(bad, ["RuntimeError"]) == Retried(units=2, edits=4, kept=0)
    assert read_status(bad)["state"] == "incomplete"
    result, executor = start(bad, monkeypatch)
    assert (result.exit_code, result.units_now, len(executor.given)) == (0, 2, 2)
    assert (bad / "leaderboard.csv").read_bytes() == (good / "leaderboard.csv").read_bytes()
    for kind in ("measurements", "answers"):
        assert SweepStore(bad).table(kind).equals(SweepStore(good).table(kind))
    assert take_back(bad) == Retried(0, 0, 0)


def test_failed_edits_of_a_sequence_stay(tmp_path, monkeypatch):
    settings = ["regimes=[{sequential: {size: 1, every: 2}}]"]
    result, _ = start(tmp_path / "t", monkeypatch, broken, settings)
    assert result.edits_failed == 4
    assert take_back(tmp_path / "t") == Retried(0, 0, 4)


@pytest.mark.parametrize(
    ("kind", "told"), [("timeout", "longer than --unit-timeout"), ("node_lost", "node that it ran")]
)
def test_rows_say_what_became_of_the_worker_each_time(tmp_path, monkeypatch, kind, told):
    def fault(task, _attempt):
        first = edit_task("ft")(task) and task.ids.first_position == 0
        return Died(task.task_id, "gone", kind) if first else None

    result, _ = start(tmp_path / "t", monkeypatch, fault)
    assert (result.exit_code, result.edits_failed) == (WITH_FAILURES, 2)
    assert read_status(result.folder)["errors"] == {kind: 2}
    rows = SweepStore(result.folder).table("edits").to_pylist()
    assert all(told in row["error_text"] for row in rows if row["status"] == "failed")


def test_lost_nodes_at_the_start_do_not_end_a_run(tmp_path, monkeypatch):
    def fault(task, attempt):
        return Died(task.task_id, "gone", "node_lost") if attempt <= 3 else None

    result, _ = start(tmp_path / "t", monkeypatch, fault)
    assert (result.exit_code, result.edits_failed) == (0, 0)


class Copying(Scripted):
    """The task that was given out last is done first; the others stay until they are dropped."""

    dropped = ()

    def drop(self, task_id):
        self.dropped = (*self.dropped, task_id)
        self.tasks = {n: task for n, task in self.tasks.items() if task.task_id != task_id}


def test_the_first_of_two_copies_counts_and_the_other_is_dropped(tmp_path, monkeypatch):
    whole, _ = start(tmp_path / "whole", monkeypatch)
    monkeypatch.setattr("editsweep.run.pace.LATE_S", 0.0)
    monkeypatch.setattr("editsweep.run.pace.LATE", 0.0)
    executor = Copying(None, tmp_path / "cache")
    monkeypatch.setattr(drive, "_executor", lambda *_: executor)
    result = run_sweep(parse_sweep(SWEEP), tmp_path / "t", RunOptions("inline", record=False))
    assert result.exit_code == 0
    assert executor.dropped
    assert {
        event["task"] for event in events(tmp_path / "t") if event["event"] == "second_copy"
    } == {*executor.dropped}
    lines = (tmp_path / "t" / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 4
    board = (whole.folder / "leaderboard.csv").read_bytes()
    assert (tmp_path / "t" / "leaderboard.csv").read_bytes() == board


class Absent(Scripted):
    """There is no worker the first `times` times that one looks."""

    def __init__(self, times, cache):
        super().__init__(None, cache)
        self.times = times

    def idle(self):
        self.times -= 1
        return [] if self.times >= 0 else super().idle()

    def wait(self, seconds):
        return super().wait(seconds) if self.tasks else []


def test_a_run_waits_for_workers_and_says_so_once(tmp_path, monkeypatch):
    monkeypatch.setattr("editsweep.run.dispatch.SAID_S", -1.0)
    monkeypatch.setattr(drive, "_executor", lambda *_: Absent(5, tmp_path / "cache"))
    progress, chosen = Interrupt(0), RunOptions("inline", record=False)
    assert run_sweep(parse_sweep(SWEEP), tmp_path / "t", chosen, progress).exit_code == 0
    assert len([said for said in progress.said if "No worker runs" in said]) == 1


def test_a_run_does_not_wait_for_workers_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr("editsweep.run.dispatch.PATIENCE_S", -1.0)
    monkeypatch.setattr(drive, "_executor", lambda *_: Absent(5, tmp_path / "cache"))
    with pytest.raises(WorkerError, match="no room for one"):
        run_sweep(parse_sweep(SWEEP), tmp_path / "t", RunOptions("inline", record=False))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"unit_timeout": 5.0}, "--unit-timeout ends a worker process"),
        ({"unit_timeout": 0.0}, "--unit-timeout 0: write seconds"),
        ({"gpus_per_worker": 1.5}, "a whole number of GPUs for a model"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told):
        run_sweep(parse_sweep(SWEEP), tmp_path / "t", RunOptions("inline", **changes))
