"""Rows for units that came to nothing: a failure is a row with a reason, never missing."""

from editsweep.core import schema
from editsweep.run.evaluate import Groups, UnitIds, failed_unit
from editsweep.run.rows import Tables


def unasked_unit(groups: Groups, ids: UnitIds, kind: str, text: str) -> Tables:
    """The tables of a unit of which not even the unedited model's answers could be had.

    Every edit failed, every number that would have been taken after the edit is null; there are no
    answers, and no numbers from before.
    """
    return failed_unit(groups, schema.BASE.empty_table(), ids, kind, text)
