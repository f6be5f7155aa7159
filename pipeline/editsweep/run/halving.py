"""An editor that does fewer groups at a time when there is no memory for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from editsweep.core.types import EditRequest
from editsweep.editors.base import Edited, Editor, State, edit_next
from editsweep.model.memory import in_halves, too_large

Group = Sequence[EditRequest]


def halving(editor: Editor) -> Editor:
    """`editor`, whose groups go in halves when memory is short; one that never fits has failed.

    No group's result depends on the others, so dividing them changes none.
    """
    return _Halving(editor)


@dataclass(frozen=True)
class _Halving:
    editor: Editor

    def edit(self, groups: Sequence[Group], seed: int) -> list[Edited]:
        def together(some: Sequence[Group]) -> list[Edited]:
            return list(self.editor.edit(some, seed))

        batches = [groups] if groups else []
        return [edited for found in in_halves(batches, together, _failed_alone) for edited in found]

    def edit_next(self, group: Group, state: State, seed: int) -> tuple[Edited, State]:
        def step(some: Sequence[Group]) -> tuple[Edited, State]:
            return edit_next(self.editor, some[0], state, seed)

        (found,) = in_halves([[group]], step, lambda one, told: (_failed(one, told), state))
        return found


def _failed_alone(group: Group, told: str) -> list[Edited]:
    return [_failed(group, told)]


def _failed(group: Group, told: str) -> Edited:
    what = "this edit" if len(group) == 1 else f"this group of {len(group)} edits"
    return Edited(error=too_large(what, told))
