import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editsweep.core.ids import canonical_json, content_id

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: "inf" not in repr(value))


def test_the_form_is_sorted_ascii_and_without_spaces():
    assert canonical_json({"b": [1, 2.5, None], "a": "李宏毅"}) == (
        '{"a":"\\u674e\\u5b8f\\u6bc5","b":[1,2.5,null]}'
    )


# Folders of results are found again by these ids, so a change here orphans every finished sweep.
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, "44136fa355b3678a1146ad16f7e8649e"),
        ([], "4f53cda18c2baa0c0354bb5f9a3ecbe5"),
        ({"editor": "rome", "layer": 5}, "93e5d04b3f7ccf8b69f33e05b99f2248"),
        ("Ω", "1ddc154824fdf850cf4b028c2cf3cfe1"),
    ],
)
def test_known_ids(value, expected):
    assert content_id(value) == expected


def test_length_is_a_prefix():
    assert content_id([1], 16) == content_id([1])[:16]
    assert len(content_id([1])) == 32


@given(st.dictionaries(st.text(), JSON, min_size=2, max_size=5))
def test_order_of_keys_does_not_matter(value):
    assert content_id(dict(reversed(value.items()))) == content_id(value)


@given(JSON)
def test_tuples_and_lists_are_the_same(value):
    assert content_id((value, value)) == content_id([value, value])


def test_order_of_a_list_matters():
    assert content_id([1, 2]) != content_id([2, 1])


def test_another_process_gives_the_same_id():
    code = "from editsweep.core.ids import content_id; print(content_id({'x': ['é', 1.5]}))"
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }
    assert said == {content_id({"x": ["é", 1.5]})}


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_a_float_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes"])
def test_what_is_not_json_is_refused(value):
    with pytest.raises(TypeError):
        content_id(value)
