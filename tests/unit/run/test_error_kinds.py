"""One line a kind of error, from a sweep's own tables."""

from pathlib import Path

import pytest

from editsweep.core import schema
from editsweep.errors import ConfigError
from editsweep.run.error_kinds import by_kind, failed, of_kind, shortened

LABELS = {"c2": "rome", "c1": "none"}


def edits():
    def row(cell, position, kind):
        keys = {"sweep_id": "s", "cell_id": cell, "unit_id": "u", "edit_id": f"e{position}"}
        of = {"prompt": "p", "target_new": "t", "relation": "", "position": position, "group": 0}
        why = {"error_kind": kind, "error_text": kind and f"{kind}\nat {position}"}
        return keys | of | why | {"status": "failed" if kind else "ok"}

    rows = [("c1", 0, "a"), ("c1", 1, None), ("c2", 5, "b"), ("c2", 3, "b"), ("c1", 2, "b")]
    return schema.table(schema.EDITS, [row(*one) for one in rows])


def test_the_first_of_a_kind_is_that_of_the_plans_first_cell():
    kinds = by_kind(failed(edits(), LABELS))
    assert [(k.kind, k.edits, k.cell, k.edit_id) for k in kinds] == [
        ("b", 3, "rome", "e3"),
        ("a", 1, "none", "e0"),
    ]
    line = kinds[0].line(Path("runs/x"))
    assert line.startswith("3 edits failed: b, first e3 of rome: b at 3;")
    assert line.endswith("editsweep status runs/x --error-kind b")


def test_edits_of_one_kind_and_of_none():
    rows = failed(edits(), LABELS)
    assert [(row["cell"], row["position"]) for row in of_kind(rows, "b")] == [
        *(("rome", 3), ("rome", 5)),
        ("none", 2),
    ]
    with pytest.raises(ConfigError, match=r"unknown kind of error 'bb'; did you mean 'b'\?"):
        of_kind(rows, "bb")
    assert by_kind(failed(edits().slice(1, 1), LABELS)) == []


def test_a_long_reason_is_one_short_line():
    assert shortened("a\n  b") == "a b"
    assert len(shortened("word " * 100)) == 100
