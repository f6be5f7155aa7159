"""A training on several workers with Ray Train: one model each, gradients summed over all.

Which edits a step takes does not depend on the workers, so they only share the work. A worker that
dies takes its group along; Ray Train starts the group again, and it goes on after the last
validation. Rank 0 keeps the checkpoints, shows them to the others, and gives back the network.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, distributed

from editsweep.errors import ConfigError, DataError, EditSweepError, ModelError, WorkerError
from editsweep.learn import checkpoint
from editsweep.learn.team import ALONE, Team
from editsweep.learn.trained import Trained
from editsweep.model.asset import Asset
from editsweep.model.cache import cache_root
from editsweep.model.load import load
from editsweep.run.assets import corpus_of, making_folder
from editsweep.run.cluster import environment, joined, private_cluster, ray_library
from editsweep.run.desk import Desk, Line
from editsweep.run.layout import Layout
from editsweep.run.plan import Recipe
from editsweep.run.resolve import ModelUse
from editsweep.run.stop import interruptible
from editsweep.run.tasks import Failure

MAX_DEATHS = 3
TIMEOUT_S = 1800
POLL_S = 0.5
_ERRORS = {error.__name__: error for error in (ConfigError, DataError, ModelError)}
# Ray Train would have each worker change into a folder of its own; sources have relative paths.
_SETTINGS = {"RAY_CHDIR_TO_TRIAL_DIR": "0"}


@dataclass(frozen=True)
class Share:
    """What each worker is told."""

    model: ModelUse
    recipe: Recipe
    threads: int
    cache: Path | None


def train_on_ray(
    share: Share,
    layout: Layout,
    address: str | None,
    report: Callable[[Line], None],
    say: Callable[[str], None],
) -> Asset:
    """Train with `layout.workers` workers in a cluster of our own, or in the one at `address`.

    Raises:
        ConfigError: ray is not installed, or the training cannot be done as it is written.
        DataError: the source changed since it was planned.
        ModelError: the model cannot be loaded.
        WorkerError: the workers cannot be started, or die again and again.
    """
    ray = ray_library()
    with ExitStack() as held:
        held.enter_context(environment(_SETTINGS))
        if address is None:
            folder = held.enter_context(private_cluster(ray, layout))
        else:
            folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="editsweep-")))
            held.enter_context(joined(ray, address))
        held.enter_context(interruptible())  # Ray has put its own handler in place
        desk = ray.remote(num_cpus=0)(Desk).remote()
        trainer = _trainer(share, layout, desk, folder, alone=address is None)
        return _followed(ray, trainer, desk, report, say)


def _trainer(share: Share, layout: Layout, desk: Any, folder: Path, alone: bool) -> Any:
    import ray.train.torch
    from ray.train.v2.api.config import LoggingConfig

    train: Any = ray.train  # its types are those of the version before
    torch_config = train.torch.TorchConfig(timeout_s=TIMEOUT_S)
    return train.torch.TorchTrainer(
        _work,
        train_loop_config={"share": share, "desk": desk},
        torch_config=_on_this_machine(folder) if alone else torch_config,
        scaling_config=train.ScalingConfig(
            num_workers=layout.workers,
            use_gpu=layout.gpus > 0,
            resources_per_worker={"CPU": layout.threads, "GPU": layout.gpus},
        ),
        run_config=train.RunConfig(
            name="training",
            storage_path=str(folder / "train"),
            failure_config=train.FailureConfig(max_failures=MAX_DEATHS),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _on_this_machine(folder: Path) -> Any:
    """Workers find each other through a file: torch's own store listens on every interface."""
    import ray
    from ray.train.torch import TorchConfig

    class Backend(TorchConfig().backend_cls):  # type: ignore[misc]
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            place = (folder / f"group-{uuid4().hex}").as_uri()
            size = len(worker_group)
            gpus = worker_group.get_resources_per_worker().get("GPU", 0)
            ray.get(
                [
                    worker_group.execute_single_async(
                        rank, _meet, "nccl" if gpus else "gloo", place, rank, size
                    )
                    for rank in range(size)
                ]
            )

    class Config(TorchConfig):
        @property
        def backend_cls(self) -> type:
            return Backend

    return Config()


def _meet(backend: str, place: str, rank: int, size: int) -> None:
    from datetime import timedelta

    distributed.init_process_group(
        backend, init_method=place, rank=rank, world_size=size, timeout=timedelta(seconds=TIMEOUT_S)
    )


def _followed(
    ray: Any, trainer: Any, desk: Any, report: Callable[[Line], None], say: Callable[[str], None]
) -> Asset:
    """Run the trainer beside this thread, which shows what comes and can be interrupted."""
    ended: list[Any] = []

    def fit() -> None:
        try:
            ended.append(trainer.fit())
        except BaseException as error:
            ended.append(error)

    thread = Thread(target=fit, daemon=True)
    thread.start()
    last = -1.0
    while True:
        thread.join(POLL_S)
        is_over = not thread.is_alive()
        lines, failure = ray.get(desk.take.remote())
        if failure is not None:
            raise _ERRORS.get(failure.kind, WorkerError)(failure.text)
        for line in lines:
            if line["step"] > last:
                report(line)
            elif line["step"] == 0:
                say("A worker died; all of them were started again.")
            last = max(last, line["step"])
        if is_over:
            return _asset(ended[0])


def _asset(end: Any) -> Asset:
    if isinstance(end, BaseException):
        raise WorkerError(f"the training failed: {_reason(end)}") from end
    tensors, meta = end.return_value
    return Asset(from_bytes(tensors), meta)


def _reason(error: BaseException) -> str:
    """The first worker's own error, if Ray Train has it."""
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", None) or {}
    first = next(iter(failures.values()), error)
    lines = [line for line in str(first).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(first).__name__


def _work(config: Mapping[str, Any]) -> tuple[bytes, Any] | None:
    """One worker's part; rank 0 gives back the network."""
    share: Share = config["share"]
    desk = config["desk"]
    try:
        return _trained(share, desk.put.remote)
    except EditSweepError as error:
        import ray

        ray.get(desk.fail.remote(Failure.of(error)))
        raise


def _trained(share: Share, report: Callable[[Line], None]) -> tuple[bytes, Any] | None:
    torch.set_num_threads(share.threads)
    team, device = _team()
    requirement = share.recipe.requirement
    assert isinstance(requirement, Trained)
    corpus = corpus_of(share.recipe)
    model = load(share.model.entry, token_budget=share.model.token_budget)
    folder = making_folder(share.cache or cache_root(), share.recipe.key)
    with _one_start(folder, team, device) as work:
        asset = requirement.make(model, corpus, work, team, None if team.rank else report)
    if team.rank:
        return None
    return to_bytes(dict(asset.tensors)), dict(asset.meta)


def _team() -> tuple[Team, torch.device]:
    """This worker's place in the process group that Ray Train made."""
    from ray.train.torch import get_device

    device: torch.device = get_device()

    def total(flat: Tensor) -> None:
        moved = flat.to(device)
        distributed.all_reduce(moved)
        if moved is not flat:
            flat.copy_(moved)

    size = distributed.get_world_size()
    return (ALONE if size == 1 else Team(distributed.get_rank(), size, total)), device


@contextmanager
def _one_start(folder: Path, team: Team, device: torch.device) -> Iterator[Path]:
    """`folder` for rank 0; for the others one beside it with what rank 0 goes on from, if anything.

    So all of them start from the same step, whatever an older try left on other machines.
    """
    if team.size == 1:
        yield folder
        return
    path = folder / checkpoint.NAME
    held = _shown(path.read_bytes() if team.rank == 0 and path.exists() else b"", team, device)
    if team.rank == 0:
        yield folder
        return
    copy = folder.with_name(f"{folder.name}.{team.rank}")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    try:
        if held:
            (copy / checkpoint.NAME).write_bytes(held)
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _shown(data: bytes, team: Team, device: torch.device) -> bytes:
    """Rank 0's bytes, on every worker."""
    size = torch.tensor([len(data)], device=device)
    distributed.broadcast(size, 0)
    if not int(size):
        return b""
    if team.rank == 0:
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device)
    else:
        buffer = torch.empty(int(size), dtype=torch.uint8, device=device)
    distributed.broadcast(buffer, 0)
    return buffer.cpu().numpy().tobytes()
