"""An editor between two guards: what it is given the model can read, what it gives back is finite.

An edit that does not pass has failed by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from editsweep.core.types import EditRequest
from editsweep.editors.base import Edited, Editor, State, edit_next
from editsweep.errors import EditError
from editsweep.model.asking import AskSettings, no_room
from editsweep.model.language_model import LanguageModel

Group = Sequence[EditRequest]


def guarded(editor: Editor, model: LanguageModel, settings: AskSettings) -> Editor:
    """`editor`, without edits of which a question is `too_long` and patches that are `not_finite`."""
    return _Guarded(editor, model, settings)


@dataclass(frozen=True)
class _Guarded:
    editor: Editor
    model: LanguageModel
    settings: AskSettings

    def edit(self, groups: Sequence[Group], seed: int) -> list[Edited]:
        long = [self._long(group) for group in groups]
        rest = [_without(group, lost) for group, lost in zip(groups, long, strict=True)]
        some = [group for group in rest if group]
        done = iter(self.editor.edit(some, seed) if some else ())
        return [
            _whole(next(done), group, lost) if kept else Edited(error=lost[0])
            for group, kept, lost in zip(groups, rest, long, strict=True)
        ]

    def edit_next(self, group: Group, state: State, seed: int) -> tuple[Edited, State]:
        lost = self._long(group)
        rest = _without(group, lost)
        if not rest:
            return Edited(error=lost[0]), state
        edited, after = edit_next(self.editor, rest, state, seed)
        found = _whole(edited, group, lost)
        return found, state if found.error else after

    def _long(self, group: Group) -> dict[int, EditError]:
        found = ((i, no_room(self.model, r, self.settings)) for i, r in enumerate(group))
        return {index: error for index, error in found if error is not None}


def _without(group: Group, lost: dict[int, EditError]) -> list[EditRequest]:
    return [request for index, request in enumerate(group) if index not in lost]


def _whole(edited: Edited, group: Group, lost: dict[int, EditError]) -> Edited:
    """What came of a group whose `lost` edits the editor has not seen."""
    if edited.patch is not None and not edited.patch.finite:
        reason = f"the change holds numbers that are not finite; its norm is {edited.patch.norm}"
        return Edited(steps=edited.steps, error=EditError("not_finite", reason))
    if not lost:
        return edited
    places = [index for index in range(len(group)) if index not in lost]
    left_out = {places[index]: error for index, error in edited.left_out.items()}
    return replace(edited, left_out=left_out | lost)
