"""From edits and answers to the rows of the three tables; and a base table back to answers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from editsweep.core import schema
from editsweep.core.scrub import scrubbed
from editsweep.core.types import CONDITION, Answer, EditRequest, Measurement, Probe, Role, Scored
from editsweep.editors.base import Edited
from editsweep.metrics.answers import scored as scored_of
from editsweep.metrics.suite import both_phases, knows, not_measured

Answers = Mapping[tuple[str, str], Answer]
Tables = dict[str, pa.Table]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UnitIds:
    """Where a unit's rows belong; positions and groups count from the start of the cell."""

    sweep_id: str
    cell_id: str
    unit_id: str
    first_position: int = 0
    first_group: int = 0

    def keys(self, edit_id: str) -> dict[str, str]:
        """The columns with which every row begins."""
        return {
            "sweep_id": self.sweep_id,
            "cell_id": self.cell_id,
            "unit_id": self.unit_id,
            "edit_id": edit_id,
        }


@dataclass(frozen=True, slots=True)
class Made:
    """One request of the unit with its outcome; its rows' keys."""

    request: EditRequest
    position: int
    group: int
    outcome: Edited


@dataclass(frozen=True, eq=False)
class Base:
    """What the unedited model said. It stays an Arrow table; answers are made of a few edits."""

    table: pa.Table
    spans: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, table: pa.Table) -> "Base":
        """A table of the schema `BASE`, in which an edit's rows stand together."""
        if not table.num_rows:
            return cls(table, {})
        runs = pc.run_end_encode(table["edit_id"].combine_chunks())
        ends = runs.run_ends.to_pylist()
        starts = [0, *ends[:-1]]
        spans = zip(starts, ends, strict=True)
        return cls(table, dict(zip(runs.values.to_pylist(), spans, strict=True)))

    def answers(self, requests: Sequence[EditRequest]) -> dict[tuple[str, str], Answer]:
        """By edit and probe; none of an edit that was not asked."""
        found: dict[tuple[str, str], Answer] = {}
        for request in requests:
            start, end = self.spans.get(request.edit_id, (0, 0))
            rows = self.table.slice(start, end - start).to_pylist()
            for probe_id, lines in groupby(rows, lambda row: str(row["probe_id"])):
                held = list(lines)
                scored = tuple(map(scored_of, held))
                first = held[0]
                found[request.edit_id, probe_id] = Answer(
                    probe_id, scored, first["said"], first["spoke"], first["kl"]
                )
        return found


def base_rows(edit_id: str, answer: Answer) -> Iterator[Row]:
    """The rows of a `BASE` table for one answer."""
    for scored in answer.scored:
        yield {
            "edit_id": edit_id,
            "probe_id": answer.probe_id,
            "said": answer.said,
            "spoke": answer.spoke,
            "kl": answer.kl,
            **asdict(scored),
        }


def tables(
    edits: Sequence[Made],
    before: Answers,
    after: Answers,
    ids: UnitIds,
    seconds: tuple[float, float],
    further: Iterable[Row] = (),
) -> Tables:
    """The tables of some edits of a unit.

    Args:
        edits: the edits.
        before: the unedited model's answers to all their probes, or none of one that failed.
        after: the edited models' answers; none of an edit that failed.
        ids: where the rows belong.
        seconds: of editing and asking, an edit.
        further: more rows for `measurements`.
    """
    asked = [(edit, probe) for edit in edits for probe in edit.request.all_probes]
    rows: dict[str, Iterator[Row]] = {
        "edits": (_edit_row(edit, before, ids, seconds) for edit in edits),
        "measurements": chain(
            (
                measured(m, edit.request.edit_id, ids)
                for edit, probe in asked
                for m in _measurements(edit, probe, before, after)
            ),
            further,
        ),
        "answers": (
            row for e, probe in asked for row in _answer_rows(e, probe, before, after, ids)
        ),
    }
    return {kind: schema.table(schema.PARTS[kind], made) for kind, made in rows.items()}


def measured(measurement: Measurement, edit_id: str, ids: UnitIds) -> Row:
    """One row of `measurements`."""
    return {**ids.keys(edit_id), **asdict(measurement)}


def reference(answer: Answer) -> str:
    """What the unedited model said by itself, where that was scored."""
    return next((s.text for s in answer.scored if s.role == "reference"), "")


def _edit_row(edit: Made, before: Answers, ids: UnitIds, seconds: tuple[float, float]) -> Row:
    request, outcome = edit.request, edit.outcome
    patch, error = outcome.patch, outcome.error
    return {
        **ids.keys(request.edit_id),
        "position": edit.position,
        "group": edit.group,
        "subject": request.subject,
        "prompt": request.prompt,
        "target_new": request.target_new,
        "target_true": request.target_true,
        "relation": request.relation,
        "case": request.case,
        "known": _known(before.get((request.edit_id, request.all_probes[0].probe_id))),
        "status": "failed" if error else "ok",
        "error_kind": error.kind if error else None,
        "error_text": scrubbed(error.reason) if error else None,
        "edit_s": seconds[0],
        "probe_s": seconds[1],
        "steps": outcome.steps,
        "loss": outcome.loss,
        "patch_norm": patch.norm if patch else None,
        "patch_rank": patch.rank if patch else None,
        "patch_bytes": patch.nbytes if patch else None,
    }


def _known(reliability: Answer | None) -> bool | None:
    """Whether the unedited model says the true target, the unwanted one once the edit is made."""
    asked = reliability.scored if reliability else ()
    old = [scored.exact for scored in asked if scored.role == "unwanted"]
    return any(old) if old else None


def counts(probe: Probe, edit_id: str, before: Answers) -> bool:
    """Whether the unedited model knows all that the probe needs."""
    return all(knows(before[edit_id, need]) for need in probe.needs)


def _measurements(edit: Made, probe: Probe, before: Answers, after: Answers) -> list[Measurement]:
    edit_id, error = edit.request.edit_id, edit.outcome.error
    key = edit_id, probe.probe_id
    if key not in before and error is not None:
        # A condition is measured only before the edit.
        return [] if probe.axis == CONDITION else not_measured(probe, _blank(probe), error.kind)
    met = counts(probe, edit_id, before)
    return both_phases(probe, before[key], after.get(key), met, error.kind if error else None)


def _blank(probe: Probe) -> Answer:
    """An answer of the right shape: which numbers a probe allows depends on nothing else."""
    roles: list[tuple[Role, str]] = [("answer", text) for text in probe.answers]
    roles = roles or [("reference", "")]
    roles += [("unwanted", text) for text in probe.unwanted]
    scored = tuple(Scored(role, text, (0,), (-1.0,), (0,)) for role, text in roles)
    return Answer(probe.probe_id, scored)


def _answer_rows(
    edit: Made, probe: Probe, before: Answers, after: Answers, ids: UnitIds
) -> Iterator[Row]:
    key = edit.request.edit_id, probe.probe_id
    if key not in before:
        return
    old, new = before[key], after.get(key)
    for index, scored in enumerate(old.scored):
        now = new.scored[index] if new else None
        yield {
            **ids.keys(edit.request.edit_id),
            "probe_id": probe.probe_id,
            "axis": probe.axis,
            "facet": probe.facet,
            "needs": probe.needs,
            "prompt": probe.prompt,
            "role": scored.role,
            "text": scored.text,
            "token_ids": scored.token_ids,
            "pre_logprobs": scored.logprobs,
            "pre_argmax": scored.argmax,
            "pre_said": old.said,
            "pre_spoke": old.spoke,
            "pre_kl": old.kl,
            "post_logprobs": now.logprobs if now else None,
            "post_argmax": now.argmax if now else None,
            "post_said": new.said if new else None,
            "post_spoke": new.spoke if new else None,
            "post_kl": new.kl if new else None,
        }
