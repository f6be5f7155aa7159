"""What an editor is: a small frozen spec that builds, on a worker, something that edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.errors import EditError
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch


@dataclass(frozen=True)
class Asset:
    """Something made once for many edits, kept as safetensors: tensors and plain JSON."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Requirement(Protocol):
    """A frozen dataclass that says what an editor needs beforehand and makes it.

    `source` names the data it reads, `name:split` or a path; `""` is the train split of the cell's
    own dataset, None means that it reads none. All other fields go into the cache key.
    """

    @property
    def source(self) -> str | None:
        """The data it reads."""

    def make(self, model: LanguageModel, requests: Sequence[EditRequest]) -> Asset:
        """Make it; `requests` are the records of `source`."""


@dataclass(frozen=True)
class Edited:
    """What came of one group: a patch (None: the model stays as it is), or an error."""

    patch: Patch | None = None
    steps: int | None = None
    loss: float | None = None
    error: EditError | None = None


class Editor(Protocol):
    """Built on a worker from a spec, a model and the assets that the spec required."""

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """Edit each group on its own, all of them together for speed; one result a group.

        A group's result does not depend on the other groups. A group that cannot be edited
        comes back with an `error`, it is never raised.
        """


@runtime_checkable
class EditorSpec(Protocol):
    """A frozen dataclass of hyperparameters: hashable, picklable, logged as it is.

    Raises:
        ConfigError: (when made) a hyperparameter is out of range.
    """

    name: ClassVar[str]
    regimes: ClassVar[frozenset[str]]

    def requirements(self) -> Mapping[str, Requirement]:
        """What must be made beforehand, by the name under which `build` gets it."""

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor itself."""
