"""From rows of the table `answers` back to the questions and to what was said; no model is needed."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any

from editsweep.core.types import Answer, Probe, Scored

# What an answer has beside its continuations, each a column `pre_<name>` and `post_<name>`.
_OWN = [field.name for field in fields(Answer) if field.name not in ("probe_id", "scored")]


@dataclass(frozen=True, slots=True)
class Asked:
    """One probe of one edit, and what was said before and after; None after a failed edit."""

    edit_id: str
    probe: Probe
    before: Answer
    after: Answer | None


def asked(rows: Iterable[Mapping[str, Any]]) -> Iterator[Asked]:
    """The probes of rows in the order in which a run wrote them: a probe's rows stand together.

    That order is the order of a probe's answers, of which the first is the usual spelling.
    """
    for (edit_id, probe_id), lines in groupby(rows, lambda row: (row["edit_id"], row["probe_id"])):
        held = list(lines)
        first = held[0]
        texts = [(row["role"], row["text"]) for row in held]
        probe = Probe(
            probe_id,
            first["axis"],
            first["facet"],
            first["prompt"],
            tuple(text for role, text in texts if role in ("answer", "text")),
            tuple(text for role, text in texts if role == "unwanted"),
            tuple(first["needs"] or ()),
        )
        after = None if first["post_said"] is None else _answer(held, "post_")
        yield Asked(edit_id, probe, _answer(held, "pre_"), after)


def scored(row: Mapping[str, Any], phase: str = "") -> Scored:
    """The continuation in one row; `phase` leads the columns that are of a phase."""
    return Scored(
        row["role"],
        row["text"],
        tuple(row["token_ids"]),
        tuple(row[f"{phase}logprobs"]),
        tuple(row[f"{phase}argmax"]),
    )


def _answer(rows: list[Mapping[str, Any]], phase: str) -> Answer:
    own = {name: rows[0][phase + name] for name in _OWN}
    return Answer(rows[0]["probe_id"], tuple(scored(row, phase) for row in rows), **own)
