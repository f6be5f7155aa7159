"""Names that people type: the nearest valid one, and which may become a path."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

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


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"training": {"steps": 5}}` as `{"training.steps": 5}`, at any depth."""
    return dict(_leaves(values))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `flat`; a mapping and dotted keys of the same name are laid together.

    Raises:
        ConfigError: a value stands twice.
    """
    made: dict[str, Any] = {}
    for key, value in _leaves(values):
        *above, last = key.split(".")
        holder: Any = made
        for step in above:
            holder = holder.setdefault(step, {}) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or last in holder:
            raise ConfigError(f"{key!r} has a value more than once; keep one")
        holder[last] = value
    return made


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from ((f"{key}.{inner}", found) for inner, found in _leaves(value))
        else:
            yield key, value
