"""One training: found in the cache, or made there, on one worker or on several; then recorded.

The network that comes of it is the asset that a sweep with the same editor, model and dataset asks
for. Ctrl-C and crashes lose what came after the last validation; the same command goes on there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from editsweep.core.names import flat
from editsweep.data import registry
from editsweep.errors import ConfigError
from editsweep.learn.checkpoint import steps_done
from editsweep.learn.trained import Trained
from editsweep.model.asset import Asset
from editsweep.model.cache import cache_root
from editsweep.run.assets import corpus_of, find_asset, keep_asset, making
from editsweep.run.drive import COMPLETE, EXPERIMENT, INTERRUPTED, this_machine
from editsweep.run.layout import Layout, Machine, cores, lay_out
from editsweep.run.plan import Recipe, recipes_of
from editsweep.run.progress import Progress, Silent, Snapshot
from editsweep.run.resolve import EditorUse, ModelUse, Source, editor_uses, model_use
from editsweep.run.stop import interruptible
from editsweep.run.training_file import TrainingData, TrainingFile
from editsweep.store.tracking_one import OneRun

Line = Mapping[str, float]
"""A line of the training curve, as the trainer reports it."""
SHOWN = ("reliability", "paraphrase", "locality")


@dataclass(frozen=True)
class TrainingJob:
    """A training file with everything that its names stand for; `recipe` makes the network."""

    name: str
    model: ModelUse
    editor: EditorUse
    recipe: Recipe

    @property
    def trained(self) -> Trained:
        """The network as a requirement."""
        return trained_of(self.recipe)


@dataclass(frozen=True)
class TrainOptions:
    """How a training is run; nothing here changes what comes of it but for rounding.

    `executor` None is Ray for several workers, this process for one. Without a `tracking_uri`
    MLflow's file is `out`/mlflow.db.
    """

    executor: Literal["inline", "ray"] | None = None
    workers: int | None = None
    threads: int | None = None
    address: str | None = None
    cache: Path | None = None
    record: bool = True
    tracking_uri: str | None = None
    experiment: str = EXPERIMENT
    out: Path = Path("runs")


@dataclass(frozen=True)
class TrainResult:
    """What came of a training; `asset` is None when it was interrupted.

    `found` says that it was in the cache already; `record_error` why MLflow has no record, or is
    empty.
    """

    exit_code: int
    key: str
    asset: Asset | None = None
    found: bool = False
    record_error: str = ""


def training_job(file: TrainingFile) -> TrainingJob:
    """Look up every name of `file`, check hyperparameters, read the records.

    Raises:
        ConfigError: a name or a hyperparameter is wrong, or the editor does not learn.
        DataError: records are bad.
        ModelError: a folder holds no model.
    """
    model = model_use(file.model)
    (editor,) = editor_uses(file.editor, "editor")
    home = _home(file.dataset)
    recipes = recipes_of(_learning_from(editor.spec, home), home, model)
    learnt = [recipe for recipe in recipes.values() if isinstance(recipe.requirement, Trained)]
    if len(learnt) != 1:
        raise ConfigError(
            f"editor {editor.name!r} has {len(learnt) or 'no'} trained networks, and this trains "
            "one; editors that learn are ke, mend, malmen and enn"
        )
    return TrainingJob(file.name, model, editor, learnt[0])


def _home(data: TrainingData) -> Source:
    """The dataset's train split, or the whole of one that is not divided."""
    name, path = registry.locate(data.name, None if data.path is None else Path(data.path))
    split = "train" if "train" in registry.splits(name) else registry.WHOLE
    return Source(name, split, None if path is None else str(path), data.skip_bad)


def _learning_from(spec: Any, home: Source) -> Any:
    """The same, with `home` as its source unless it names one of its own."""
    if getattr(spec, "source", "given"):
        return spec
    split = "" if home.split == registry.WHOLE else f":{home.split}"
    return replace(spec, source=f"{home.name}{split}{f'@{home.path}' if home.path else ''}")


def trained_of(recipe: Recipe) -> Trained:
    """The recipe's requirement, which must be a trained network."""
    assert isinstance(recipe.requirement, Trained)
    return recipe.requirement


def run_training(
    job: TrainingJob, options: TrainOptions | None = None, progress: Progress | None = None
) -> TrainResult:
    """Find the network in the cache, or train it, going on where the last try stopped.

    Raises:
        ConfigError: the training cannot be done as it is written.
        DataError: the source changed since it was planned.
        ModelError: the model cannot be loaded.
        WorkerError: workers cannot be started or kept alive.
    """
    chosen, shown = options or TrainOptions(), progress or Silent()
    cache, key = chosen.cache or cache_root(), job.recipe.key
    asset = find_asset(cache, key)
    found = asset is not None
    if asset is None:
        with making(cache, key, _waiting(shown)) as work, interruptible():
            asset = find_asset(cache, key)
            watch = Watch(shown, job.trained.training.steps, steps_done(work))
            try:
                asset = asset or _train(job, chosen, work, watch)
            except KeyboardInterrupt:
                shown.say(f"Stopped; kept is what was there after step {steps_done(work)}.")
                return TrainResult(INTERRUPTED, key)
            keep_asset(cache, key, asset)
    return TrainResult(COMPLETE, key, asset, found, _record(job, asset, chosen, shown))


class Watch:
    """Turns the lines of a training curve into snapshots, at the pace of this run."""

    def __init__(self, progress: Progress, total: int, first: int = 0) -> None:
        """`total` steps at most; this run goes on after step `first`."""
        self._progress, self._total, self._first = progress, total, first
        self._started = monotonic()
        self.step = first
        if first:
            progress.say(f"Going on after step {first}.")

    def say(self, message: str) -> None:
        """Show a message of its own."""
        self._progress.say(message)

    def __call__(self, line: Line) -> None:
        """Show a new line; lines of what was done before are only the start of the clock."""
        step = round(line["step"])
        if step <= self._first:
            self._started = monotonic()
        if step < self.step:
            return
        self.step = step
        now = Snapshot(
            done=step,
            total=self._total,
            done_now=step - self._first,
            seconds=monotonic() - self._started,
            failed=0,
            doing=described(line),
            unit="steps",
        )
        self._progress.update(now)


def described(line: Line) -> str:
    """A line of the curve in words."""
    rates = [
        f"{axis} {line[f'validation_{axis}']:.2f}" for axis in SHOWN if f"validation_{axis}" in line
    ]
    return " · ".join([f"validation loss {line['validation_loss']:.3f}", *rates])


def _train(job: TrainingJob, options: TrainOptions, work: Path, watch: Watch) -> Asset:
    training = job.trained.training
    executor = options.executor or ("ray" if (options.workers or 1) > 1 else "inline")
    if executor == "inline":
        if (options.workers or 1) != 1:
            raise ConfigError(
                f"--executor inline is one worker, not {options.workers}: use --executor ray"
            )
        layout = lay_out(Machine(cores()), 1, 1, options.threads)
        _announce(job, layout, watch)
        return _inline(job, layout.threads, work, watch)
    from editsweep.run.cluster import cluster_machine
    from editsweep.run.train_pool import Share, train_on_ray

    machine = cluster_machine(options.address) if options.address else this_machine()
    # More workers than a step has groups would have nothing to do.
    layout = lay_out(machine, training.models, options.workers, options.threads)
    _announce(job, layout, watch)
    share = Share(job.model, job.recipe, layout.threads, options.cache)
    return train_on_ray(share, layout, options.address, watch, watch.say)


def _inline(job: TrainingJob, count: int, work: Path, report: Callable[[Line], None]) -> Asset:
    from editsweep.model.load import load
    from editsweep.model.threads import threads

    with threads(count):
        model = load(job.model.entry, token_budget=job.model.token_budget)
        return job.trained.make(model, corpus_of(job.recipe), work, report=report)


def _announce(job: TrainingJob, layout: Layout, watch: Watch) -> None:
    workers = "1 worker" if layout.workers == 1 else f"{layout.workers} workers"
    watch.say(
        f"Training {job.editor.name} for {job.model.entry.name} on {workers} with {layout.threads} "
        f"threads each, at most {job.trained.training.steps} steps ..."
    )


def _waiting(progress: Progress) -> Callable[[str], None]:
    return lambda holder: progress.say(f"Waiting: {holder} trains this network.")


def _record(job: TrainingJob, asset: Asset, options: TrainOptions, progress: Progress) -> str:
    """Record the training in MLflow; why that could not be, or nothing."""
    if not options.record:
        return ""
    from editsweep.run import publish
    from editsweep.store.tracking import default_uri

    uri = options.tracking_uri or default_uri(options.out / job.name)
    reason = publish.record_one(_as_run(job, asset.meta), uri, options.experiment).reason
    if reason:
        progress.say(f"Not recorded in MLflow ({reason}); the same command tries again.")
    return reason


def _as_run(job: TrainingJob, meta: Mapping[str, Any]) -> OneRun:
    """The training as MLflow gets it: its curve, its test and all that is known of the network."""
    source, digest = job.recipe.source, meta["split"]["digest"]
    assert source is not None
    editor, model, data = job.editor.name, job.model.entry.name, f"{source.name}:{source.split}"
    said = {"editor": editor, "model": model, "source": data}
    curve = [
        (name, value, round(line["step"]))
        for line in meta["curve"]
        for name, value in line.items()
        if name != "step"
    ]
    return OneRun(
        kind="training",
        key=job.recipe.key,
        name=job.name,
        tags={
            "method": editor,
            "model": model,
            "dataset": data,
            "split_digest": digest,
            "code": meta["code"],
        },
        params=said | {f"editor.{k}": v for k, v in flat(job.editor.params).items()},
        points=[*curve, *((f"test.{name}", value, 0) for name, value in meta["test"].items())],
        data=(data, digest),
        texts={"curve.json": _json(meta["curve"]), "network.json": _json(meta)},
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)
