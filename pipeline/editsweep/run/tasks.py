"""What goes to a worker and what comes back: plain values that pickle, small on the way back."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from editsweep.core.scrub import scrubbed
from editsweep.core.types import EditRequest
from editsweep.editors.base import EditorSpec
from editsweep.errors import ConfigError, DataError, EditError, ModelError
from editsweep.model.memory import device_broken
from editsweep.model.restrain import Restraint
from editsweep.run.assets import Files, Parcel
from editsweep.run.evaluate import AskSettings, UnitIds
from editsweep.run.plan import Recipe
from editsweep.run.resolve import ModelUse


@dataclass(frozen=True)
class AssetTask:
    """Make one asset, unless the worker's cache has it or `parcels` holds it; `send` its files."""

    task_id: str
    model: ModelUse
    recipe: Recipe
    parcels: Mapping[str, Parcel] = field(default_factory=dict)
    send: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the assets that the worker will look for."""
        return (self.recipe.key,)


@dataclass(frozen=True)
class BaseTask:
    """Put these requests' probes to the unedited model."""

    task_id: str
    model: ModelUse
    requests: tuple[EditRequest, ...] = field(repr=False)
    settings: AskSettings
    keys: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class EditTask:
    """One unit. It carries its requests and what the unedited model said to them (Arrow IPC).

    A unit of a sequence has in `chain` where that stands, empty at its start, and in `again` the
    earlier edits to ask again. Any other unit has None. Assets that the worker's cache lacks are in
    `parcels`, by key.
    """

    task_id: str
    model: ModelUse
    spec: EditorSpec
    recipes: Mapping[str, Recipe]
    groups: tuple[tuple[EditRequest, ...], ...] = field(repr=False)
    base: bytes = field(repr=False)
    ids: UnitIds
    seed: int
    settings: AskSettings
    restrain: Restraint | None = None
    chain: bytes | None = field(default=None, repr=False)
    again: tuple[EditRequest, ...] = field(default=(), repr=False)
    parcels: Mapping[str, Parcel] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the assets that the worker will look for."""
        return tuple(recipe.key for recipe in self.recipes.values())


Task = AssetTask | BaseTask | EditTask


@dataclass(frozen=True)
class Failure:
    """An exception as text.

    `is_setup` says that every other task would meet it too, `is_broken` that only this process
    would: it is of no more use.
    """

    kind: str
    text: str
    trace: str
    is_setup: bool
    is_broken: bool = False

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """What is kept of `error`."""
        kind = error.kind if isinstance(error, EditError) else type(error).__name__
        text = error.reason if isinstance(error, EditError) else str(error) or kind
        trace = "".join(traceback.format_exception(error))
        return cls(
            kind,
            scrubbed(text),
            scrubbed(trace),
            isinstance(error, ConfigError | DataError | ModelError),
            device_broken(error),
        )


@dataclass(frozen=True)
class Loaded:
    """A model that a worker loaded: its name, the seconds, and the worker as `host:pid`."""

    model: str
    seconds: float
    worker: str


@dataclass(frozen=True)
class Outcome:
    """What came of a task: its tables as Arrow IPC files by name, or a failure; or an asset's files.

    A unit of a sequence has in `chain` where that stands now. `loaded` is the model that had to be
    loaded for the task, if one had to be; its seconds are in `seconds` too. `device` is what it ran
    on, as `layout.device_text` writes it. An asset that was there already is `found`.
    """

    task_id: str
    parts: Mapping[str, bytes] = field(repr=False)
    seconds: float
    host: str
    failure: Failure | None = None
    chain: bytes | None = field(default=None, repr=False)
    loaded: Loaded | None = None
    asset: Files | None = field(default=None, repr=False)
    device: str = ""
    found: bool = False

    @property
    def work_s(self) -> float:
        """Seconds of the task itself, without the loading of the model."""
        return max(0.0, self.seconds - (self.loaded.seconds if self.loaded else 0.0))


@dataclass(frozen=True)
class Died:
    """The worker that had a task is gone.

    By itself (`worker_died`), with its whole node (`node_lost`), or because it was ended when its
    GPU had failed (`gpu_failed`) or the task had run too long (`timeout`).
    """

    task_id: str
    reason: str
    kind: Literal["worker_died", "node_lost", "gpu_failed", "timeout"] = "worker_died"


Event = Outcome | Died
