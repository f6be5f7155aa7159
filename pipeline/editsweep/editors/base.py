"""What an editor is: a small frozen spec that builds, on a worker, something that edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from editsweep.core.types import EditRequest
from editsweep.errors import EditError
from editsweep.model.asset import Asset, Requirement
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch

__all__ = [
    "Asset",
    "Chained",
    "Edited",
    "Editor",
    "EditorSpec",
    "Requirement",
    "State",
    "edit_next",
]

# What an editor carries from one step of a sequence to the next, beside the weights.
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Edited:
    """What came of one group: a patch (None: the model stays as it is), or an error.

    `left_out` are the requests of the group, by index, that cannot be edited, and why; what the rest
    of this says is of the others.
    """

    patch: Patch | None = None
    steps: int | None = None
    loss: float | None = None
    error: EditError | None = None
    left_out: Mapping[int, EditError] = field(default_factory=dict)


class Editor(Protocol):
    """Built on a worker from a spec, a model and the assets that the spec required."""

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """Edit each group on its own, all of them together for speed; one result a group.

        A group's result does not depend on the other groups. A request that cannot be edited is
        left out of its group, and a group in which none can comes back with an `error`; it is
        never raised (`editors.groups` does this for any editor).
        """


@runtime_checkable
class Chained(Protocol):
    """An editor that remembers, along a sequence, more than the weights that it has changed."""

    def edit_next(
        self, group: Sequence[EditRequest], state: State, seed: int
    ) -> tuple[Edited, State]:
        """Edit the model as it now is; `state` is empty at the start of a sequence.

        Returns:
            What came of the group, its patch relative to the model as it now is, and the next
            step's state. A failed group leaves the state as it was.
        """


def edit_next(
    editor: Editor, group: Sequence[EditRequest], state: State, seed: int
) -> tuple[Edited, State]:
    """One step of a sequence, whether or not the editor carries a state.

    The caller has written the earlier steps into the weights (`model.merge.merged`).
    """
    if isinstance(editor, Chained):
        return editor.edit_next(group, state, seed)
    (edited,) = editor.edit([group], seed)
    return edited, state


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
