"""Rows for units that came to nothing: a failure is a row with a reason, never missing."""

from collections.abc import Sequence

import pyarrow as pa

from editsweep.core import schema
from editsweep.core.types import CONDITION, Answer, EditRequest, Probe, Role, Scored
from editsweep.metrics.suite import not_measured
from editsweep.run.evaluate import UnitIds


def unasked_unit(
    groups: Sequence[Sequence[EditRequest]], ids: UnitIds, kind: str, text: str
) -> dict[str, pa.Table]:
    """The tables of a unit of which not even the unedited model's answers could be had.

    Every edit failed, every number that would have been taken after the edit is null; there are no
    answers, and no numbers from before.
    """
    edits, measurements = [], []
    position = ids.first_position
    for group, requests in enumerate(groups, ids.first_group):
        for request in requests:
            keys = {
                "sweep_id": ids.sweep_id,
                "cell_id": ids.cell_id,
                "unit_id": ids.unit_id,
                "edit_id": request.edit_id,
            }
            row = {name: getattr(request, name) for name in _COPIED}
            row |= {"position": position, "group": group, "status": "failed"}
            edits.append({**keys, **row, "error_kind": kind, "error_text": text})
            position += 1
            for probe in request.all_probes:
                if probe.axis == CONDITION:  # measured only before the edit
                    continue
                for lost in not_measured(probe, _some_answer(probe), kind):
                    fields = {name: getattr(lost, name) for name in lost.__slots__}
                    measurements.append({**keys, **fields})
    return {
        "edits": schema.table(schema.EDITS, edits),
        "measurements": schema.table(schema.MEASUREMENTS, measurements),
        "answers": schema.ANSWERS.empty_table(),
    }


_COPIED = ("subject", "prompt", "target_new", "target_true", "relation", "case")


def _some_answer(probe: Probe) -> Answer:
    """An answer of the right shape: which numbers a probe allows depends on nothing else."""
    roles: list[tuple[Role, str]] = [("answer", text) for text in probe.answers]
    roles = roles or [("reference", "")]
    roles += [("unwanted", text) for text in probe.unwanted]
    scored = tuple(Scored(role, text, (0,), (-1.0,), (0,)) for role, text in roles)
    return Answer(probe.probe_id, scored)
