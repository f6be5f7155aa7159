"""Secrets that must not be written down: passwords in URLs, and what secret variables hold."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "[hidden]"
LEAST = 8  # a shorter value, e.g. `false`, stands in too many texts that are no secret
_NAMES = re.compile(r"TOKEN|KEY|PASSWORD|SECRET", re.IGNORECASE)
_PLACES = re.compile(r"_(PATH|FILE|DIR)$", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/\s'\"]*@")


def secrets_here() -> list[str]:
    """What variables named `*TOKEN*`, `*KEY*`, `*PASSWORD*` or `*SECRET*` hold, the longest first.

    Not those that name a place (`*_PATH`, `*_FILE`, `*_DIR`), nor values under `LEAST` characters.
    """
    found = {
        value
        for name, value in os.environ.items()
        if len(value) >= LEAST and _NAMES.search(name) and not _PLACES.search(name)
    }
    return sorted(found | {quote(value, safe="") for value in found}, key=lambda v: (-len(v), v))


def scrubbed(text: str) -> str:
    """`text` without secrets: URLs lose user and password, secret values become `HIDDEN`."""
    for value in secrets_here():
        text = text.replace(value, HIDDEN)
    return _LOGIN.sub("://", text)


def scrubbed_json(value: Any) -> Any:
    """The same for every text in a value that JSON can hold."""
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, Mapping):
        return {name: scrubbed_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed_json(inner) for inner in value]
    return value
