"""What an editor is: a small frozen spec that builds, on a worker, something that edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from editsweep.core.types import EditRequest
from editsweep.errors import EditError
from editsweep.model.asset import Asset, Requirement
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch

__all__ = ["Asset", "Edited", "Editor", "EditorSpec", "Requirement"]


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
