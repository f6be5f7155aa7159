"""One record of our file format: from parsed JSON to an edit request, or the first problem."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from editsweep.core.types import AXES, CONDITION, TEXT_AXES, EditRequest, Probe
from editsweep.data.fields import Problem, clean, quoted, same_text, seen

_PROBE_AXES = (*AXES, *TEXT_AXES, CONDITION)
_RECORD_KEYS = (
    *("subject", "prompt", "target_new", "target_true", "relation", "case", "again"),
    "probes",
)
_PROBE_KEYS = ("axis", "prompt", "answers", "unwanted", "facet", "needs")


def parse_record(record: Any) -> EditRequest:
    """The request that a record stands for, spaces around its texts removed.

    Raises:
        Problem: a field is missing, unknown, of the wrong type, empty or at odds with another.
    """
    record = _object(record, "", _RECORD_KEYS)
    subject = None if record.get("subject") is None else _text(record, "subject")
    prompt = _template(_text(record, "prompt", strip=False), subject)
    new = _text(record, "target_new")
    old = None if record.get("target_true") is None else _text(record, "target_true")
    if old is not None and same_text(new) == same_text(old):
        message = f"{quoted(new)} is what target_true says already; an edit has to change something"
        raise Problem("target_new", "no_op", message)
    relation = _text(record, "relation", empty=True) if "relation" in record else ""
    if not isinstance(record.get("again", False), bool):
        raise Problem("again", "wrong_type", f"{seen(record['again'])}; write true or false")
    case = _text(record, "case", empty=True) if "case" in record else ""
    listed = record.get("probes", [])
    if not isinstance(listed, list):
        raise Problem("probes", "wrong_type", f"{seen(listed)}; write a list of objects")
    request = EditRequest.of(subject, prompt, new, old, _probes(listed), relation, case)
    _no_double(request)
    return request


def _probes(listed: list[Any]) -> list[Probe]:
    """The probes in order; those that others need are made first, because an id is of content."""
    made: dict[int, Probe] = {}
    for of_conditions in (True, False):
        conditions = dict(made)
        for i, entry in enumerate(listed):
            if (isinstance(entry, dict) and entry.get("axis") == CONDITION) == of_conditions:
                made[i] = _probe(entry, f"probes[{i}]", conditions)
    return [made[i] for i in range(len(listed))]


def _probe(entry: Any, place: str, conditions: Mapping[int, Probe]) -> Probe:
    entry = _object(entry, place, _PROBE_KEYS)
    axis = _text(entry, "axis", place)
    if axis not in _PROBE_AXES:
        raise Problem(f"{place}.axis", "unknown_axis", _not_valid(axis, _PROBE_AXES))
    prompt = _text(entry, "prompt", place, strip=False)
    answers = _texts(entry, "answers", place)
    unwanted = _texts(entry, "unwanted", place)
    if not answers and axis not in ("locality", "fluency"):
        message = f"a {axis} probe needs an answer (locality can do without: it then asks for what "
        message += "the unedited model says; and fluency: the prompt then begins a text)"
        raise Problem(f"{place}.answers", "no_answers", message)
    both = {same_text(answer) for answer in answers} & {same_text(text) for text in unwanted}
    if both:
        message = f"{sorted(both)[0]!r} is also among the answers; remove it from one of the two"
        raise Problem(f"{place}.unwanted", "answer_unwanted", message)
    facet = _text(entry, "facet", place, empty=True) if "facet" in entry else ""
    needs = _needs(entry, place, conditions)
    return Probe.of(axis, prompt, answers, unwanted, facet, needs)


def _needs(entry: dict[str, Any], place: str, conditions: Mapping[int, Probe]) -> list[str]:
    """The ids of the conditions that a probe names by their places in the list."""
    field = f"{place}.needs"
    listed = entry.get("needs", [])
    if not isinstance(listed, list):
        raise Problem(field, "wrong_type", f"{seen(listed)}; write a list of places in `probes`")
    for value in listed:
        if isinstance(value, bool) or not isinstance(value, int) or value not in conditions:
            there = ", ".join(map(str, conditions)) or "none"
            message = f"{seen(value)} is no probe on the axis `condition` (such places: {there})"
            raise Problem(field, "no_condition", message)
    return [conditions[value].probe_id for value in dict.fromkeys(listed)]


def _template(prompt: str, subject: str | None) -> str:
    """`prompt` with `{}` where the subject belongs."""
    holes, said = prompt.count("{}"), quoted(prompt)
    if subject is None:
        if holes:
            message = f"{said} has {{}}, but there is no subject; give one or write it out"
            raise Problem("prompt", "no_subject", message)
        return prompt
    if holes == 1:
        return prompt
    if holes > 1:
        message = f"{said} has {{}} {holes} times; keep it once, where the subject belongs"
        raise Problem("prompt", "many_subjects", message)
    found, name = prompt.count(subject), quoted(subject)
    if found == 1:
        return prompt.replace(subject, "{}")
    if found > 1:
        message = f"{said} has the subject {name} {found} times; write {{}} for one of them"
        raise Problem("prompt", "many_subjects", message)
    message = f"{said} has neither {{}} nor the subject {name}; write {{}} where it belongs"
    raise Problem("prompt", "no_subject", message)


def _no_double(request: EditRequest) -> None:
    """Every probe of an edit has its own id, the reliability probe included."""
    seen: dict[str, int] = {}
    for i, probe in enumerate(request.all_probes, -1):
        first = seen.setdefault(probe.probe_id, i)
        if first != i:
            twin = "the edit's own question" if first < 0 else f"probes[{first}]"
            raise Problem(f"probes[{i}]", "duplicate_probe", f"the same as {twin}; remove it")


def _object(value: Any, place: str, keys: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Problem(place, "wrong_type", f"{seen(value)}; write an object {{...}}")
    strange = [key for key in value if key not in keys]
    if strange:
        field = f"{place}.{strange[0]}" if place else strange[0]
        raise Problem(field, "unknown_key", _not_valid(strange[0], keys))
    return value


def _text(
    record: dict[str, Any], key: str, place: str = "", *, strip: bool = True, empty: bool = False
) -> str:
    """A string field: `strip` removes spaces on both sides, else only those at the end."""
    field = f"{place}.{key}" if place else key
    if key not in record:
        raise Problem(field, "missing", "is missing; every record needs it")
    return clean(record[key], field, strip=strip, empty=empty)


def _texts(record: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    """A string or a list of strings, without repetitions."""
    value = record.get(key)
    if value is None:
        return ()
    field = f"{place}.{key}"
    if isinstance(value, str):
        return (clean(value, field),)
    if not isinstance(value, list):
        raise Problem(field, "wrong_type", f"{seen(value)}; write a string or a list of strings")
    return tuple(dict.fromkeys(clean(v, f"{field}[{i}]") for i, v in enumerate(value)))


def _not_valid(name: str, valid: Iterable[str]) -> str:
    names = list(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{name!r} is not valid{hint} (valid: {', '.join(names)})"
