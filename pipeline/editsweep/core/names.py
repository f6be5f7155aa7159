"""Names that people type: the nearest valid one, and which may become a path."""

import difflib
import re
from collections.abc import Iterable

from editsweep.errors import ConfigError

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def unknown(kind: str, name: str, valid: Iterable[str]) -> ConfigError:
    """The error for a name that is not among `valid`, with the nearest one."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"unknown {kind} {name!r}{hint} (valid: {', '.join(names)})")


def safe_name(kind: str, name: str) -> str:
    """`name` if it can become a folder's name, else ConfigError."""
    if not _SAFE.fullmatch(name):
        raise ConfigError(
            f"{kind} {name!r} cannot name a folder: use 1 to 100 letters, digits, '.', '_' or '-', "
            "not starting with '.' or '-'"
        )
    return name
