"""One unit of work in one process: edit, ask every probe, measure. The heart of the system.

requests ─► editor ─► patches ─► ask (many edits a batch) ─► answers ─► measure ─► tables
                                  ▲
         what the unedited model said, made once and shared
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from time import perf_counter
from typing import Any

import pyarrow as pa

from editsweep.core import schema
from editsweep.core.types import Answer, EditRequest, Measurement, Probe, Scored
from editsweep.editors.base import Edited, Editor
from editsweep.errors import EditError
from editsweep.metrics.suite import measure, not_measured
from editsweep.model.asking import AskSettings, Question, ask, references
from editsweep.model.language_model import LanguageModel

__all__ = ["AskSettings", "UnitIds", "ask_base", "evaluate", "failed_unit"]

Groups = Sequence[Sequence[EditRequest]]
BaseAnswers = Mapping[tuple[str, str], Answer]


@dataclass(frozen=True, slots=True)
class UnitIds:
    """Where a unit's rows belong; positions and groups count from the start of the cell."""

    sweep_id: str
    cell_id: str
    unit_id: str
    first_position: int = 0
    first_group: int = 0


@dataclass(frozen=True, slots=True)
class _Edit:
    """One request of the unit with its group's outcome; its rows' keys."""

    request: EditRequest
    position: int
    group: int
    outcome: Edited


def ask_base(
    model: LanguageModel, requests: Sequence[EditRequest], settings: AskSettings
) -> pa.Table:
    """What the unedited model says to every probe of `requests`; schema `BASE`."""
    asked = [(request.edit_id, probe) for request in requests for probe in request.all_probes]
    said = references(model, [probe for _, probe in asked])
    questions = [Question(p, reference=text) for (_, p), text in zip(asked, said, strict=True)]
    answers = ask(model, questions, [None], settings)
    return schema.table(
        schema.BASE,
        (
            {"edit_id": edit_id, "probe_id": answer.probe_id, "said": answer.said, **asdict(scored)}
            for (edit_id, _), answer in zip(asked, answers, strict=True)
            for scored in answer.scored
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
) -> dict[str, pa.Table]:
    """Edit each group on its own, ask all probes of all edits together, measure.

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
    before = _base_answers(base)
    start = perf_counter()
    outcomes = editor.edit(groups, seed)
    edited = perf_counter()
    edits = _edits(groups, outcomes, ids)
    after = _ask_edits(model, edits, before, settings)
    seconds = (edited - start, perf_counter() - edited)
    return _tables(edits, before, after, ids, seconds)


def failed_unit(
    groups: Groups, base: pa.Table, ids: UnitIds, kind: str, text: str
) -> dict[str, pa.Table]:
    """The tables of a unit that could not be done: every edit a failure with its reason."""
    outcomes = [Edited(error=EditError(kind, text)) for _ in groups]
    return _tables(_edits(groups, outcomes, ids), _base_answers(base), {}, ids, (0.0, 0.0))


def _edits(groups: Groups, outcomes: Sequence[Edited], ids: UnitIds) -> list[_Edit]:
    edits: list[_Edit] = []
    for group, (requests, outcome) in enumerate(zip(groups, outcomes, strict=True)):
        for request in requests:
            position = ids.first_position + len(edits)
            edits.append(_Edit(request, position, ids.first_group + group, outcome))
    return edits


def _ask_edits(
    model: LanguageModel, edits: Sequence[_Edit], before: BaseAnswers, settings: AskSettings
) -> dict[tuple[str, str], Answer]:
    """The edited models' answers by edit and probe; none for a failed edit."""
    done = [edit for edit in edits if edit.outcome.error is None]
    patch_of = {group: i for i, group in enumerate(dict.fromkeys(edit.group for edit in done))}
    patches = list({edit.group: edit.outcome.patch for edit in done}.values())
    asked = [(edit, probe) for edit in done for probe in edit.request.all_probes]
    questions = [
        Question(
            probe, patch_of[edit.group], _reference(before[edit.request.edit_id, probe.probe_id])
        )
        for edit, probe in asked
    ]
    answers = ask(model, questions, patches, settings)
    return {
        (edit.request.edit_id, probe.probe_id): answer
        for (edit, probe), answer in zip(asked, answers, strict=True)
    }


def _reference(answer: Answer) -> str:
    return next((s.text for s in answer.scored if s.role == "reference"), "")


def _base_answers(base: pa.Table) -> dict[tuple[str, str], Answer]:
    """The rows of a `BASE` table as answers, by edit and probe."""
    answers = {}
    rows = base.to_pylist()
    for (edit_id, probe_id), lines in groupby(rows, lambda r: (r["edit_id"], r["probe_id"])):
        held = list(lines)
        scored = tuple(
            Scored(
                r["role"],
                r["text"],
                tuple(r["token_ids"]),
                tuple(r["logprobs"]),
                tuple(r["argmax"]),
            )
            for r in held
        )
        answers[edit_id, probe_id] = Answer(probe_id, scored, held[0]["said"])
    return answers


def _tables(
    edits: Sequence[_Edit],
    before: BaseAnswers,
    after: BaseAnswers,
    ids: UnitIds,
    seconds: tuple[float, float],
) -> dict[str, pa.Table]:
    asked = [(edit, probe) for edit in edits for probe in edit.request.all_probes]
    rows: dict[str, Iterator[dict[str, Any]]] = {
        "edits": (_edit_row(edit, before, ids, seconds, len(edits)) for edit in edits),
        "measurements": (
            {**_keys(edit, ids), **asdict(m)}
            for edit, probe in asked
            for m in _measurements(edit, probe, before, after)
        ),
        "answers": (
            row for e, probe in asked for row in _answer_rows(e, probe, before, after, ids)
        ),
    }
    return {kind: schema.table(schema.PARTS[kind], made) for kind, made in rows.items()}


def _keys(edit: _Edit, ids: UnitIds) -> dict[str, str]:
    return {
        "sweep_id": ids.sweep_id,
        "cell_id": ids.cell_id,
        "unit_id": ids.unit_id,
        "edit_id": edit.request.edit_id,
    }


def _edit_row(
    edit: _Edit, before: BaseAnswers, ids: UnitIds, seconds: tuple[float, float], n_edits: int
) -> dict[str, Any]:
    request, outcome = edit.request, edit.outcome
    patch, error = outcome.patch, outcome.error
    return {
        **_keys(edit, ids),
        "position": edit.position,
        "group": edit.group,
        "subject": request.subject,
        "prompt": request.prompt,
        "target_new": request.target_new,
        "target_true": request.target_true,
        "relation": request.relation,
        "known": _known(before[request.edit_id, request.all_probes[0].probe_id]),
        "status": "failed" if error else "ok",
        "error_kind": error.kind if error else None,
        "error_text": error.reason if error else None,
        "edit_s": seconds[0] / n_edits,
        "probe_s": seconds[1] / n_edits,
        "steps": outcome.steps,
        "loss": outcome.loss,
        "patch_norm": patch.norm if patch else None,
        "patch_rank": patch.rank if patch else None,
        "patch_bytes": patch.nbytes if patch else None,
    }


def _known(reliability: Answer) -> bool | None:
    """Whether the unedited model says the true target, the unwanted one once the edit is made."""
    old = [scored.exact for scored in reliability.scored if scored.role == "unwanted"]
    return any(old) if old else None


def _measurements(
    edit: _Edit, probe: Probe, before: BaseAnswers, after: BaseAnswers
) -> list[Measurement]:
    key = edit.request.edit_id, probe.probe_id
    pre = measure(probe, before[key], before[key], "pre")
    if edit.outcome.error is not None:
        return pre + not_measured(probe, before[key], edit.outcome.error.kind)
    return pre + measure(probe, before[key], after[key], "post")


def _answer_rows(
    edit: _Edit, probe: Probe, before: BaseAnswers, after: BaseAnswers, ids: UnitIds
) -> Iterator[dict[str, Any]]:
    key = edit.request.edit_id, probe.probe_id
    old, new = before[key], after.get(key)
    for index, scored in enumerate(old.scored):
        now = new.scored[index] if new else None
        yield {
            **_keys(edit, ids),
            "probe_id": probe.probe_id,
            "axis": probe.axis,
            "facet": probe.facet,
            "prompt": probe.prompt,
            "role": scored.role,
            "text": scored.text,
            "token_ids": scored.token_ids,
            "pre_logprobs": scored.logprobs,
            "pre_argmax": scored.argmax,
            "pre_said": old.said,
            "post_logprobs": now.logprobs if now else None,
            "post_argmax": now.argmax if now else None,
            "post_said": new.said if new else None,
        }
