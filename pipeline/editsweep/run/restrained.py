"""An editor whose patches are restrained before anybody sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from editsweep.core.types import EditRequest
from editsweep.editors.base import Edited, Editor, State, edit_next
from editsweep.errors import EditError
from editsweep.model.language_model import LanguageModel
from editsweep.model.restrain import Restraint


def restrained(editor: Editor, model: LanguageModel, restraint: Restraint | None) -> Editor:
    """`editor`, with `restraint` applied to each of its patches if there is one."""
    return editor if restraint is None else _Restrained(editor, model, restraint)


@dataclass(frozen=True)
class _Restrained:
    editor: Editor
    model: LanguageModel
    restraint: Restraint

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        return [self._held(edited) for edited in self.editor.edit(groups, seed)]

    def edit_next(
        self, group: Sequence[EditRequest], state: State, seed: int
    ) -> tuple[Edited, State]:
        edited, after = edit_next(self.editor, group, state, seed)
        held = self._held(edited)
        return held, state if held.error else after

    def _held(self, edited: Edited) -> Edited:
        if edited.patch is None:
            return edited
        try:
            return replace(edited, patch=self.restraint.apply(self.model, edited.patch))
        except EditError as error:
            return replace(edited, patch=None, error=error)
