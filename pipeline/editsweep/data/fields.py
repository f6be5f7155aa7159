"""The texts of a record: checked, cleaned of spaces, and where one is wrong, what is wrong."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair."""


class Problem(Exception):
    """The first thing that is wrong with a record; becomes a `Fault` with file and line."""

    def __init__(self, field: str, kind: str, message: str) -> None:
        super().__init__(field, kind, message)
        self.field = field
        self.kind = kind
        self.message = message


def same_text(text: str) -> str:
    """What two texts share when they differ only in case and spaces."""
    return " ".join(text.split()).casefold()


def clean(value: Any, field: str, *, strip: bool = True, empty: bool = False) -> str:
    """A string without spaces at its end, and with `strip` at its beginning.

    Raises:
        Problem: it is no string, holds half a character, or holds nothing and not `empty`.
    """
    if not isinstance(value, str):
        raise Problem(field, "wrong_type", f"{seen(value)}; write a string")
    if _HALF.search(value):
        message = f"{seen(value)} holds half a surrogate pair, which no text can; mend the escape"
        raise Problem(field, "broken_text", message)
    text = value.strip() if strip else value.rstrip()
    if not text and not empty:
        raise Problem(field, "empty", f"{seen(value)} is empty; write some text")
    return text


def seen(value: Any) -> str:
    """A value as a message shows it, with its type in JSON's words and not too long."""
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "list"}
    shown = ascii(value)
    short = shown if len(shown) <= 60 else shown[:57] + "..."
    return "null" if value is None else f"{short} ({kinds.get(type(value), 'object')})"


def quoted(text: str) -> str:
    """A text as a message quotes it, with what cannot be seen spelt out, and not too long."""
    return repr(text) if len(text) <= 200 else f"{text[:197]!r}..."


def needed(record: Mapping[str, Any], key: str, place: str = "") -> str:
    """A string that has to be there and say something; `place` leads the field's name.

    Raises:
        Problem: it is missing or is not so.
    """
    field = inside(place, key)
    if key not in record:
        raise Problem(field, "missing", "is missing; every record needs it")
    return clean(record[key], field)


def optional(record: Mapping[str, Any], key: str, place: str = "") -> str | None:
    """A string, empty if it says nothing; None where the key is missing or null.

    Raises:
        Problem: it is something else.
    """
    value = record.get(key)
    return None if value is None else clean(value, inside(place, key), empty=True)


def mapping(value: Any, place: str) -> Mapping[str, Any]:
    """`value` if it is an object.

    Raises:
        Problem: it is something else.
    """
    if not isinstance(value, dict):
        raise Problem(place, "wrong_type", f"{seen(value)}; write an object {{...}}")
    return value


def listing(value: Any, place: str) -> list[Any]:
    """`value` if it is a list; None is an empty one.

    Raises:
        Problem: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise Problem(place, "wrong_type", f"{seen(value)}; write a list")
    return value


def aliases(value: Any, field: str) -> tuple[str, ...]:
    """All texts of a string, a list or a list of lists, once each and in order; empty ones go.

    Raises:
        Problem: there is something else in it.
    """
    return tuple(dict.fromkeys(_flat(value, field)))


def inside(place: str, key: str) -> str:
    """The name of a field of a field, e.g. `portability.New Question`."""
    return f"{place}.{key}" if place and key else place or key


def _flat(value: Any, field: str) -> Iterable[str]:
    if value is None:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _flat(item, f"{field}[{index}]")
    elif text := clean(value, field, empty=True):
        yield text
