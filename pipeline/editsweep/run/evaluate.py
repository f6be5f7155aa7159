"""One unit of work in one process: edit, ask every probe, measure. The heart of the system.

requests ─► editor ─► patches ─► ask (many edits a batch) ─► answers ─► measure ─► tables
                                  ▲
         what the unedited model said, made once and shared

Some tens of edits at a time become rows, so a batch of thousands holds no more answers than they have.
"""

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter

import pyarrow as pa

from editsweep.core import schema
from editsweep.core.conflicts import superseded
from editsweep.core.types import Answer, EditRequest
from editsweep.editors.base import Edited, Editor
from editsweep.errors import EditError
from editsweep.model.asking import AskSettings, Question, ask, no_room, references
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch
from editsweep.run.rows import Answers, Base, Made, Tables, UnitIds, base_rows, reference, tables

__all__ = ["AskSettings", "UnitIds", "ask_base", "evaluate", "evaluated", "failed_unit"]

# Edits that are asked and turned into rows at once.
SLICE = 32

Groups = Sequence[Sequence[EditRequest]]


def ask_base(
    model: LanguageModel, requests: Sequence[EditRequest], settings: AskSettings
) -> pa.Table:
    """What the unedited model says to every probe of `requests`; schema `BASE`.

    Of a request that is too long for it there are no rows.
    """
    short = [request for request in requests if no_room(model, request, settings) is None]
    asked = [(request.edit_id, probe) for request in short for probe in request.all_probes]
    said = references(model, [probe for _, probe in asked])
    questions = [Question(p, reference=text) for (_, p), text in zip(asked, said, strict=True)]
    answers = ask(model, questions, [None], settings)
    return schema.table(
        schema.BASE,
        (
            row
            for (edit_id, _), answer in zip(asked, answers, strict=True)
            for row in base_rows(edit_id, answer)
        ),
    )


def evaluate(
    model: LanguageModel,
    editor: Editor,
    groups: Groups,
    base: pa.Table,
    ids: UnitIds,
    seed: int,
    settings: AskSettings,
) -> Tables:
    """Edit each group on its own, ask all probes of all edits, measure.

    Args:
        model: the unedited model; it is unedited afterwards too.
        editor: what makes a patch of each group.
        groups: the independent edit jobs of this unit.
        base: what the unedited model says to their probes, from `ask_base`.
        ids: where the rows belong.
        seed: passed to the editor.
        settings: where the model also speaks freely.

    Returns:
        The unit's tables `edits`, `measurements` and `answers`.
    """
    return joined(evaluated(model, editor, groups, base, ids, seed, settings))


def evaluated(
    model: LanguageModel,
    editor: Editor,
    groups: Groups,
    base: pa.Table,
    ids: UnitIds,
    seed: int,
    settings: AskSettings,
) -> Iterator[Tables]:
    """As `evaluate`, some tens of edits after others."""
    start, known = perf_counter(), Base.of(base)
    edits = _made(groups, editor.edit([kept(group) for group in groups], seed), ids)
    edit_s = (perf_counter() - start) / max(1, len(edits))
    for part in slices(edits):
        begin = perf_counter()
        before = known.answers([edit.request for edit in part])
        after = _asked(model, part, before, settings)
        yield tables(part, before, after, ids, (edit_s, (perf_counter() - begin) / len(part)))


def failed_unit(groups: Groups, base: pa.Table, ids: UnitIds, kind: str, text: str) -> Tables:
    """The tables of a unit that could not be done: every edit a failure with its reason."""
    known = Base.of(base)
    edits = _made(groups, [Edited(error=EditError(kind, text)) for _ in groups], ids)
    return joined(
        tables(part, known.answers([edit.request for edit in part]), {}, ids, (0.0, 0.0))
        for part in slices(edits)
    )


def joined(parts: Iterator[Tables]) -> Tables:
    """Slices as whole tables."""
    found: dict[str, list[pa.Table]] = {k: [s.empty_table()] for k, s in schema.PARTS.items()}
    for part in parts:
        for kind, table in part.items():
            found[kind].append(table)
    return {kind: pa.concat_tables(some) for kind, some in found.items()}


def slices(edits: Sequence[Made]) -> Iterator[Sequence[Made]]:
    """Edits that are asked and turned into rows at once."""
    return (edits[i : i + SLICE] for i in range(0, len(edits), SLICE))


def kept(group: Sequence[EditRequest]) -> list[EditRequest]:
    """The group without edits that a later one of it contradicts."""
    lost = superseded(group)
    return [request for place, request in enumerate(group) if place not in lost]


def outcomes_of(group: Sequence[EditRequest], outcome: Edited) -> list[Edited]:
    """What came of each request of a group: what the patch does not hold has failed.

    That is an edit that a later one contradicts, and one that the editor has left out.
    """
    lost = superseded(group)
    found = [outcome] * len(group)
    tried = [place for place in range(len(group)) if place not in lost]
    for index, error in outcome.left_out.items():
        found[tried[index]] = Edited(error=error)
    for place, later in lost.items():
        winner = group[later]
        text = (
            f"a later edit of the same group says otherwise: {winner.question!r} to "
            f"{winner.target_new!r} ({winner.edit_id})"
        )
        found[place] = Edited(error=EditError("superseded", text))
    return found


def _made(groups: Groups, outcomes: Sequence[Edited], ids: UnitIds) -> list[Made]:
    edits: list[Made] = []
    for group, (requests, outcome) in enumerate(zip(groups, outcomes, strict=True)):
        for request, own in zip(requests, outcomes_of(requests, outcome), strict=True):
            position = ids.first_position + len(edits)
            edits.append(Made(request, position, ids.first_group + group, own))
    return edits


def _asked(
    model: LanguageModel, edits: Sequence[Made], before: Answers, settings: AskSettings
) -> dict[tuple[str, str], Answer]:
    """The edited models' answers by edit and probe; none for a failed edit.

    A model that an edit has left as it was says what it said.
    """
    made = [edit for edit in edits if edit.outcome.error is None]
    same = {edit.request.edit_id for edit in made if edit.outcome.patch is None}
    done = [edit for edit in made if edit.outcome.patch is not None]
    patch_of = {group: i for i, group in enumerate(dict.fromkeys(edit.group for edit in done))}
    patches = list({edit.group: edit.outcome.patch for edit in done}.values())
    places = {edit.request.edit_id: patch_of[edit.group] for edit in done}
    found = answers_of(model, places, [e.request for e in done], patches, before, settings)
    return found | {key: answer for key, answer in before.items() if key[0] in same}


def answers_of(
    model: LanguageModel,
    patch_of: Mapping[str, int],
    requests: Sequence[EditRequest],
    patches: Sequence[Patch | None],
    before: Answers,
    settings: AskSettings,
) -> dict[tuple[str, str], Answer]:
    """All probes of `requests`, each put to its patch; answers by edit and probe."""
    asked = [(request.edit_id, probe) for request in requests for probe in request.all_probes]
    questions = [
        Question(probe, patch_of[edit_id], reference(before[edit_id, probe.probe_id]))
        for edit_id, probe in asked
    ]
    answers = ask(model, questions, patches, settings)
    return {
        (edit_id, probe.probe_id): answer
        for (edit_id, probe), answer in zip(asked, answers, strict=True)
    }
