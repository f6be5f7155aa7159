"""Edits that belong together, by an editor that makes one at a time: each on top of those before."""

from collections.abc import Sequence
from dataclasses import dataclass

from editsweep.core.types import EditRequest
from editsweep.editors.base import Edited, Editor, EditorSpec, State, edit_next
from editsweep.errors import EditError
from editsweep.model.language_model import LanguageModel
from editsweep.model.merge import merged
from editsweep.model.patch import Patch, added


def in_turn(editor: Editor, spec: EditorSpec, model: LanguageModel) -> Editor:
    """`editor`, which `spec` built, for groups of any size.

    One that cannot edit in batches makes the edits of a group one after another, as MQuAKE's
    authors do with ROME (arXiv 2305.14795, section 4). The group's patch is the sum.
    """
    return editor if "batch" in spec.regimes else _InTurn(editor, model)


@dataclass(frozen=True)
class _InTurn:
    editor: Editor
    model: LanguageModel

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        alone = [index for index, group in enumerate(groups) if len(group) == 1]
        found = self.editor.edit([groups[index] for index in alone], seed) if alone else []
        done = dict(zip(alone, found, strict=True))
        return [
            done[index] if index in done else self.edit_next(group, {}, seed)[0]
            for index, group in enumerate(groups)
        ]

    def edit_next(
        self, group: Sequence[EditRequest], state: State, seed: int
    ) -> tuple[Edited, State]:
        if len(group) == 1:
            return edit_next(self.editor, group, state, seed)
        patch, after, done = Patch(), state, list[Edited]()
        left_out: dict[int, EditError] = {}
        for index, request in enumerate(group):
            with merged(self.model, patch):
                edited, after = edit_next(self.editor, [request], after, seed)
            if edited.error is not None:
                left_out[index] = edited.error
                continue
            patch = added(patch, edited.patch or Patch())
            done.append(edited)
        if not done:
            return Edited(error=left_out[0]), state
        steps = [edited.steps for edited in done if edited.steps is not None]
        return Edited(patch, sum(steps) if steps else None, done[-1].loss, None, left_out), after
