"""Passwords and tokens stay out of whatever is written: tables, logs, scripts, MLflow."""

import os
import re

_NAMES = re.compile(r"(?:TOKEN|KEY|SECRET)$|PASSWORD", re.IGNORECASE)
_IN_URL = re.compile(r"://[^/@\s]+@")
# Shorter values, such as a port or "1", stand in many texts and are no secret.
_SHORTEST = 8
HIDDEN = "***"


def scrubbed(text: str) -> str:
    """`text` without users and passwords of URLs, and without values of secret variables.

    Those are environment variables whose name ends in TOKEN, KEY or SECRET, or has PASSWORD in it.
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _NAMES.search(name) and value in text:
            text = text.replace(value, HIDDEN)
    return _IN_URL.sub("://", text)
