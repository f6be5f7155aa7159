import pyarrow as pa
import pytest

from editsweep.core import schema
from editsweep.report.trace_table import peaks, roles, summary


def traces(facts):
    """One layer, one kind: for each fact its clean probability and (role, effect) by token."""
    rows = [
        {
            "fact_id": f"f{n}",
            "prompt": "p",
            "subject": "s",
            "answer": " a",
            "kind": "mlp",
            "token_index": place,
            "token": "t",
            "role": role,
            "layer": 0,
            "probability": 0.1 + effect,
            "low": 0.1,
            "clean": clean,
            "effect": effect,
        }
        for n, (clean, tokens) in enumerate(facts)
        for place, (role, effect) in enumerate(tokens)
    ]
    return schema.table(schema.TRACES, rows)


LONG = [("before", 9.0), ("middle_subject", 0.2), ("middle_subject", 0.4), ("last_subject", 0.6)]
SHORT = [("middle_subject", 0.5), ("last_subject", 0.2)]


def test_a_fact_counts_once_however_many_tokens_it_has():
    found = {row["role"]: row for row in roles(traces([(0.5, LONG), (0.9, SHORT)])).to_pylist()}
    assert list(found) == ["middle_subject", "last_subject"]
    assert found["middle_subject"]["effect"] == pytest.approx((0.3 + 0.5) / 2)
    assert found["middle_subject"]["n"] == 2
    # Two values x and y: the standard error of their mean is |x - y| / 2.
    half = 1.959964 * 0.2
    last = found["last_subject"]
    assert (last["ci_low"], last["ci_high"]) == pytest.approx((0.4 - half, 0.4 + half))


def test_one_fact_has_no_interval():
    (first, _) = roles(traces([(0.5, SHORT)])).to_pylist()
    assert (first["n"], first["ci_low"], first["ci_high"]) == (1, None, None)


def test_the_summary_and_the_peak():
    made = traces([(0.5, LONG), (0.9, SHORT)])
    assert summary(made) == pytest.approx(
        {"facts": 2, "clean": 0.7, "low": 0.1, "total_effect": 0.6}
    )
    (peak,) = peaks(roles(made))
    assert (peak["kind"], peak["role"], peak["layer"]) == ("mlp", "last_subject", 0) or (
        peak["role"] == "middle_subject"
    )
    assert peak["effect"] == pytest.approx(0.4)
    assert isinstance(roles(made), pa.Table)
