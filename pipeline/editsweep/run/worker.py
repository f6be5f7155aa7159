"""One worker: a plain class that holds one model and does one task at a time.

It knows nothing of Ray, of queues, or of where results are kept.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import torch

from editsweep.core import schema
from editsweep.editors.base import Editor, EditorSpec
from editsweep.errors import EditError
from editsweep.model.cache import cache_root
from editsweep.model.intact import changed, checksums
from editsweep.model.language_model import LanguageModel
from editsweep.model.load import load
from editsweep.model.threads import threads
from editsweep.run.assets import asset_folder, files_of, obtain
from editsweep.run.chain import Chain, Checkpoint, go_on
from editsweep.run.evaluate import ask_base, evaluated
from editsweep.run.guarded import guarded
from editsweep.run.halving import halving
from editsweep.run.in_turn import in_turn
from editsweep.run.layout import device_text
from editsweep.run.resolve import ModelUse
from editsweep.run.restrained import restrained
from editsweep.run.tasks import (
    AssetTask,
    BaseTask,
    EditTask,
    Failure,
    Loaded,
    Outcome,
    Task,
)


class Worker:
    """Loads a model once and keeps it, and the last editor built, until another is asked for."""

    def __init__(self, threads: int, cache: Path | None = None, gpus: float = 1) -> None:
        """Work with `threads` threads, and with assets under `cache` (the user's cache if None).

        Where this process sees a GPU, the part `gpus` of it is its own; below 1 it takes no more of
        its memory than that. Above 1 the model is spread over the first so many.
        """
        self.threads = threads
        self.gpus = gpus
        self.cache = cache or cache_root()
        self._model: tuple[ModelUse, LanguageModel] | None = None
        self._editor: tuple[EditorSpec, tuple[str, ...], Editor] | None = None
        self._just_loaded: Loaded | None = None
        self._device = ""
        self._weights: Mapping[str, int] = {}

    def run(self, task: Task) -> Outcome:
        """Do one task. An exception comes back as the outcome's failure, never out of here.

        A task that leaves the model's weights changed has failed, and the model is loaded anew.
        """
        with threads(self.threads):
            return self._run(task)

    def _run(self, task: Task) -> Outcome:
        start = perf_counter()
        parts: Mapping[str, bytes] = {}
        chain, failure, asset = None, None, None
        found = isinstance(task, AssetTask) and (
            bool(task.parcels) or asset_folder(self.cache, task.recipe.key).exists()
        )
        try:
            parts, chain = self._do(task)
            if isinstance(task, AssetTask) and task.send:
                asset = files_of(self.cache, task.recipe.key)
        except Exception as error:
            failure = Failure.of(error)
        try:
            self._check_weights()
        except Exception as error:
            self._model = self._editor = None
            parts, chain, asset, failure = {}, None, None, failure or Failure.of(error)
        seconds, host = perf_counter() - start, platform.node()
        loaded, self._just_loaded = self._just_loaded, None
        return Outcome(
            task.task_id,
            parts,
            seconds,
            host,
            failure,
            chain,
            loaded,
            asset,
            device=self._device if self._model else "",
            found=found,
        )

    def _do(self, task: Task) -> tuple[Mapping[str, bytes], bytes | None]:
        if isinstance(task, AssetTask):
            if not asset_folder(self.cache, task.recipe.key).exists():
                parcel = task.parcels.get(task.recipe.key)
                obtain(self.cache, task.recipe, self._loaded(task.model), parcel)
            return {}, None
        model = self._loaded(task.model)
        if isinstance(task, BaseTask):
            return {"base": schema.to_ipc(ask_base(model, task.requests, task.settings))}, None
        return self._edit(task, model)

    def _edit(
        self, task: EditTask, model: LanguageModel
    ) -> tuple[Mapping[str, bytes], bytes | None]:
        step, total = task.restrain, None
        if task.chain is not None and step is not None and not step.each_step:
            step, total = None, step
        plain = in_turn(self._built(task, model), task.spec, model)
        editor = guarded(halving(restrained(plain, model, step)), model, task.settings)
        base, ids, seed = schema.from_ipc(task.base), task.ids, task.seed
        if task.chain is None:
            made = evaluated(model, editor, task.groups, base, ids, seed, task.settings)
            return schema.to_ipc_files(schema.PARTS, made), None
        checkpoint = Checkpoint(task.groups, task.again, base, ids, seed, task.settings, total)
        chain = Chain.of(task.chain, model.device)
        chain, made = go_on(model, editor, chain, checkpoint)
        return schema.to_ipc_files(schema.PARTS, made), chain.bytes()

    def _loaded(self, use: ModelUse) -> LanguageModel:
        if self._model is None or self._model[0] != use:
            self._model = self._editor = None  # the old model goes before the new one comes
            start = perf_counter()
            if self.gpus < 1 and torch.cuda.is_available():
                torch.cuda.set_per_process_memory_fraction(self.gpus)
            self._model = (use, load(use.entry, _devices(self.gpus), token_budget=use.token_budget))
            worker = f"{platform.node()}:{os.getpid()}"
            seconds = round(perf_counter() - start, 3)
            device = self._model[1].device
            name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
            self._device = device_text(name, self.threads, self.gpus)
            self._just_loaded = Loaded(use.entry.name, seconds, worker)
            self._weights = checksums(self._model[1])
        return self._model[1]

    def _check_weights(self) -> None:
        names = changed(self._weights, self._model[1]) if self._model else []
        if names:
            shown = ", ".join(names[:3])
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise EditError(
                "weights_changed",
                f"the model's own weights were written and not put back ({shown}{more}), so "
                "nothing of this unit is kept: an editor gives back a patch, see "
                "editsweep.testing.check_editor",
            )

    def _built(self, task: EditTask, model: LanguageModel) -> Editor:
        spec, keys = task.spec, task.keys
        if self._editor is None or self._editor[:2] != (spec, keys):
            self._editor = None
            assets = {
                name: obtain(self.cache, recipe, model, task.parcels.get(recipe.key))
                for name, recipe in task.recipes.items()
            }
            self._editor = (spec, keys, spec.build(model, assets))
        return self._editor[2]


def _devices(gpus: float) -> str:
    """Where the model goes, as `load` takes it."""
    if gpus <= 1 or not torch.cuda.is_available():
        return "auto"
    return ",".join(f"cuda:{n}" for n in range(int(gpus)))
