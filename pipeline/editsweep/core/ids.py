"""Content ids: the same values give the same id on every machine and Python."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys and no spaces; ASCII, no NaN.

    Raises:
        ValueError: a float is not finite.
        TypeError: a value is not plain JSON.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def content_id(value: Any, length: int = 32) -> str:
    """The first `length` hex digits of the sha256 of `value` as canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]
