"""`--set datasets[0].limit=8`: one value of a raw sweep, replaced before it is checked."""

import copy
import itertools
import re
from collections.abc import Mapping
from typing import Any

from editsweep.errors import ConfigError
from editsweep.run.plain_yaml import parse

_STEP = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_]*)|\[(\d+)\]")


def override(raw: Mapping[str, Any], setting: str) -> dict[str, Any]:
    """`raw` with the value that `setting` (`key=value`, a dotted key, a YAML value) names.

    Raises:
        ConfigError: the setting has no `=`, or its key does not lead anywhere.
    """
    key, equals, text = setting.partition("=")
    steps = _steps(key.strip())
    if not equals or not steps:
        raise ConfigError(f"--set {setting!r}: write key=value, e.g. datasets[0].limit=8")
    made: dict[str, Any] = copy.deepcopy(dict(raw))
    holder: Any = made
    for step, following in itertools.pairwise(steps):
        _check(holder, step, setting)
        below = holder[step] if isinstance(step, int) else holder.get(step)
        if isinstance(below, str) and isinstance(following, str):
            below = {"name": below}
        elif below is None and isinstance(following, str):
            below = {}
        holder[step] = below
        holder = below
    _check(holder, steps[-1], setting)
    holder[steps[-1]] = parse(text, f"--set {setting}")
    return made


def _steps(key: str) -> list[str | int]:
    steps: list[str | int] = []
    at = 0
    while at < len(key):
        found = _STEP.match(key, at)
        if found is None:
            return []
        steps.append(found[1] or int(found[2]))
        at = found.end()
    return steps


def _check(holder: Any, step: str | int, setting: str) -> None:
    if isinstance(step, str) and not isinstance(holder, dict):
        raise ConfigError(f"--set {setting!r}: there is no key {step!r} in {holder!r}")
    if isinstance(step, int) and not (isinstance(holder, list) and step < len(holder)):
        size = len(holder) if isinstance(holder, list) else "no"
        raise ConfigError(f"--set {setting!r}: [{step}] leads nowhere; there are {size} entries")
