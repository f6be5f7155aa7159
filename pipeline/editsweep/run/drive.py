"""A whole run: plan, go on where the last one stopped, report, record."""

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from editsweep.errors import ConfigError, EditSweepError
from editsweep.model.cache import cache_root
from editsweep.run import rates
from editsweep.run.budget import Budget
from editsweep.run.dispatch import Dispatch
from editsweep.run.error_kinds import ErrorKind, by_kind, failed
from editsweep.run.executor import Executor
from editsweep.run.inline import InlineExecutor
from editsweep.run.layout import Machine, cores, lay_out, lay_out_nodes
from editsweep.run.meters import Amount, Meters
from editsweep.run.plan import Plan, make_plan
from editsweep.run.progress import Progress, Silent
from editsweep.run.resolve import resolve
from editsweep.run.stop import stoppable
from editsweep.run.sweep import Sweep
from editsweep.run.untrained import trained_first
from editsweep.store import durable
from editsweep.store.store import SweepStore

EXPERIMENT = "editsweep"
COMPLETE, FAILED, USAGE, WITH_FAILURES, INTERRUPTED = 0, 1, 2, 3, 75


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run; nothing here changes its results."""

    executor: Literal["inline", "ray"] = "ray"
    workers: int | None = None
    threads: int | None = None
    address: str | None = None
    cache: Path | None = None
    record: bool = True
    tracking_uri: str | None = None
    experiment: str = EXPERIMENT
    max_failures: Budget | None = None
    gpus_per_worker: float | None = None
    unit_timeout: float | None = None
    metrics_port: int | None = None


@dataclass(frozen=True)
class RunResult:
    """What came of a run. `units_now` were done by it, `edits_failed` are of the whole sweep.

    `record_error` says why MLflow has no record, `over_budget` why the run gave up; else empty.
    """

    exit_code: int
    folder: Path
    units: int
    units_now: int
    edits: int
    edits_failed: int
    error_kinds: tuple[ErrorKind, ...] = ()
    record_error: str = ""
    over_budget: str = ""


def run_sweep(
    sweep: Sweep, folder: Path, options: RunOptions | None = None, progress: Progress | None = None
) -> RunResult:
    """Run `sweep` in `folder`, or go on with it; a finished one is left as it is.

    Raises:
        ConfigError: the sweep cannot be done as it is written.
        DataError: records are bad.
        ModelError: a model cannot be loaded.
        StoreError: the folder is another sweep's, locked or cannot be written.
        WorkerError: workers cannot be started or kept alive.
    """
    chosen, shown = options or RunOptions(), progress or Silent()
    plan = make_plan(resolve(sweep))
    with SweepStore(folder).locked() as store, stoppable(shown.say) as stop:
        _bind(store, plan)
        for warning in (
            *plan.trusted,
            *plan.left_out,
            *plan.noted,
            *plan.conflicts,
            *store.warnings,
        ):
            shown.say(warning)
        work = Dispatch(plan, store, shown, stop, chosen.max_failures)
        if work.units_left == 0 and _is_finished(store):
            shown.say("Nothing to do: this sweep is finished.")
            return _result(plan, store, 0)
        for message in trained_first(plan, chosen.cache):
            shown.say(message)
        return _run(plan, store, chosen, shown, work)


def _run(
    plan: Plan,
    store: SweepStore,
    options: RunOptions,
    progress: Progress,
    work: Dispatch,
) -> RunResult:
    before = work.units_left
    store.event(event="started", units_left=before, executor=options.executor)
    try:
        if before:
            with _executor(options, work.width) as executor:
                work.run(executor, _meters(options, plan, store))
    except KeyboardInterrupt:
        progress.say("Stopped; what was in flight will be done again.")
    except EditSweepError as error:
        store.event(event="failed", kind=type(error).__name__, text=str(error))
        raise
    if before:
        _remember_rates(plan, store, options, progress)
    if kinds := _kinds(plan, store):
        store.event(event="errors", kinds=[asdict(kind) for kind in kinds])
    left = len(plan.units) - len(store.committed())
    if left:
        store.event(event="interrupted", units_left=left)
        so_far = _result(plan, store, before - left)
        if work.over_budget:
            return replace(so_far, exit_code=FAILED, over_budget=work.over_budget)
        return so_far
    return _finish(plan, store, options, progress, before)


def _remember_rates(plan: Plan, store: SweepStore, options: RunOptions, progress: Progress) -> None:
    """Keep how fast it was, for plans of other sweeps; a run does not fail for that."""
    try:
        rates.remember(options.cache or cache_root(), rates.measured(plan, store.folder))
    except OSError as error:
        progress.say(f"How fast it was is not remembered for later plans ({error})")


def _finish(
    plan: Plan, store: SweepStore, options: RunOptions, progress: Progress, units_now: int
) -> RunResult:
    """Report and record a sweep whose units are all committed; MLflow may fail, the report not."""
    from editsweep.run import publish

    results = publish.results_of(store.folder)
    publish.report(store.folder, results)
    error = ""
    if options.record:
        progress.say("Recording in MLflow ...")
        where = options.tracking_uri, options.experiment
        error = publish.record(store.folder, *where, results).reason
    if error:
        progress.say(f"Not recorded in MLflow ({error}); later: editsweep record {store.folder}")
    store.event(event="finished", recorded=options.record and not error)
    return _result(plan, store, units_now, error)


def _kinds(plan: Plan, store: SweepStore) -> list[ErrorKind]:
    labels = {cell_id: cell.label for cell_id, cell in plan.cells.items()}
    return by_kind(failed(store.table("edits", store.committed()), labels))


def _result(plan: Plan, store: SweepStore, units_now: int, record_error: str = "") -> RunResult:
    kept, kinds = store.committed(), _kinds(plan, store)
    code = INTERRUPTED if len(kept) < len(plan.units) else WITH_FAILURES if kinds else COMPLETE
    return RunResult(
        exit_code=code,
        folder=store.folder,
        units=len(plan.units),
        units_now=units_now,
        edits=sum(unit.stop - unit.start for unit in plan.units),
        edits_failed=sum(kind.edits for kind in kinds),
        error_kinds=tuple(kinds),
        record_error=record_error,
    )


def _bind(store: SweepStore, plan: Plan) -> None:
    """Tie the folder to this sweep; a folder without any result can be tied anew."""
    if not store.committed():
        with durable.explained(store.folder, "bind it"):
            (store.folder / "sweep.lock.yaml").unlink(missing_ok=True)
    store.bind(plan.resolved, plan.sweep_id)
    store.write_json("plan.json", plan.to_json())


def _meters(options: RunOptions, plan: Plan, store: SweepStore) -> Meters | None:
    """Meters on Ray's metrics port, if there is one."""
    if options.executor == "inline" or not (options.address or options.metrics_port):
        return None
    from editsweep.run.ray_meters import RaySink

    kept = store.committed()
    done = [unit for unit in plan.units if unit.unit_id in kept]
    whole, before = (Amount(len(u), sum(x.stop - x.start for x in u)) for u in (plan.units, done))
    return Meters(RaySink(), plan.name, whole, before)


def _executor(options: RunOptions, units: int) -> AbstractContextManager[Executor]:
    if options.unit_timeout is not None and options.unit_timeout <= 0:
        raise ConfigError(f"--unit-timeout {options.unit_timeout:g}: write seconds, more than 0")
    if options.metrics_port and options.executor == "inline":
        raise ConfigError("--metrics-port is Ray's: use --executor ray, or read progress.jsonl")
    if options.metrics_port and options.address:
        raise ConfigError(
            f"--metrics-port: the cluster at {options.address} has a port of its own, which "
            "`ray start --metrics-export-port` sets; leave it out"
        )
    if options.executor == "inline":
        return _inline(options, units)
    from editsweep.run.cluster import cluster_nodes
    from editsweep.run.pool import RayPool

    share = (units, options.workers, options.threads, options.gpus_per_worker)
    if options.address is None:
        layout = lay_out(this_machine(), *share)
        limit, port = options.unit_timeout, options.metrics_port
        return RayPool(layout, options.cache, unit_timeout=limit, metrics_port=port)
    layout = lay_out_nodes(cluster_nodes(options.address), *share)
    # Workers that were asked for wait for nodes that are not there yet; others come with them.
    most = units if options.workers is None else None
    return RayPool(layout, options.cache, options.address, most, options.unit_timeout)


def _inline(options: RunOptions, units: int) -> InlineExecutor:
    if (options.workers or 1) != 1:
        raise ConfigError(
            f"--executor inline is one worker, not {options.workers}: use --executor ray"
        )
    if options.unit_timeout is not None:
        raise ConfigError("--unit-timeout ends a worker process: use --executor ray")
    gpus = options.gpus_per_worker
    machine = Machine(cores()) if gpus is None else this_machine()
    layout = lay_out(machine, units, 1, options.threads, gpus)
    return InlineExecutor(layout.threads, options.cache, layout.gpus or 1)


def this_machine() -> Machine:
    """The cores and GPUs of this machine that this process may use."""
    import torch

    return Machine(cores(), torch.cuda.device_count() if torch.cuda.is_available() else 0)


def _is_finished(store: SweepStore) -> bool:
    path = store.folder / "progress.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return bool(lines) and '"event": "finished"' in lines[-1]
