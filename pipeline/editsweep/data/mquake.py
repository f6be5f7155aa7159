"""MQuAKE: several edits a case, and questions that only all of them together answer.

Zhong et al. 2023 (arXiv 2305.14795). Each rewrite of a record is an edit, and they share a case. The
case's questions stand on its last edit, because an edit is asked what its own request names.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from editsweep.core.ids import content_id
from editsweep.core.types import MULTI_HOP, EditRequest
from editsweep.data.fields import Problem, aliases, listing, mapping, needed, optional, quoted
from editsweep.data.published import Published, Questions, Record, old_target
from editsweep.data.reading import Note

# An accepted spelling with fewer letters and digits is a code or a flag, and may stand by chance in
# a text that says something else.
_SHORT = 3
_REWRITES = "requested_rewrite"


def edits(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edits of one case, in the record's order.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    rewrites = [
        mapping(value, f"{_REWRITES}[{index}]")
        for index, value in enumerate(listing(record.get(_REWRITES), _REWRITES))
    ]
    if not rewrites:
        raise Problem(_REWRITES, "missing", "there is no edit; every case needs one")
    hops, case = _hops(record), _case(record)
    made = []
    for index, rewrite in enumerate(rewrites):
        asked = Questions(note)
        subject, prompt, new, old, question = _rewrite(rewrite, f"{_REWRITES}[{index}]", note)
        asked.ask(f"{_REWRITES}[{index}].question", "paraphrase", question, [new], [old])
        if index == len(rewrites) - 1:
            _kept(hops, rewrites, asked)
            _together(record, asked, note)
        relation = optional(rewrite, "relation_id", f"{_REWRITES}[{index}]") or ""
        probes = asked.probes.values()
        made.append(EditRequest.of(subject, prompt, new, old, probes, relation, case))
    return made


def _rewrite(
    rewrite: Record, place: str, note: Note
) -> tuple[str, str, str, str | None, str | None]:
    """Subject, prompt with `{}`, new target, old target and question of one edit."""
    subject, prompt = needed(rewrite, "subject", place), needed(rewrite, "prompt", place)
    if prompt.count("{}") != 1:
        kind = "many_subjects" if "{}" in prompt else "no_subject"
        raise Problem(f"{place}.prompt", kind, f"{quoted(prompt)} does not have {{}} once")
    new, true = (
        needed(mapping(rewrite.get(key), f"{place}.{key}"), "str", f"{place}.{key}")
        for key in ("target_new", "target_true")
    )
    old = old_target(new, [true], note, f"{place}.target_new")
    return subject, prompt, new, old, optional(rewrite, "question", place)


def _together(record: Record, asked: Questions, note: Note) -> None:
    """The wordings of the case's question; the answers from before the edits are unwanted."""
    wanted, unwanted = _answers(record, "new_answer"), _answers(record, "answer")
    if short := [text for text in wanted[1:] if sum(map(str.isalnum, text)) < _SHORT]:
        told = ", ".join(map(quoted, short))
        note(
            "new_answer_alias",
            "short_alias",
            f"{told} may stand by chance in a longer text; it is accepted",
        )
    asked.ask_all("questions", "portability", record.get("questions"), wanted, unwanted, MULTI_HOP)


def _kept(hops: Sequence[Record], rewrites: Sequence[Record], asked: Questions) -> None:
    """Steps of the new answer that no edit makes: they have to stay as they are."""
    edited = {
        str(rewrite.get("prompt", "")).replace("{}", str(rewrite.get("subject", "")))
        for rewrite in rewrites
    } | {rewrite.get("question") for rewrite in rewrites}
    for index, hop in enumerate(hops):
        place = f"new_single_hops[{index}]"
        texts = [optional(hop, key, place) for key in ("cloze", "question")]
        if not edited & set(texts):
            prompt = next((text for text in texts if text), "")
            asked.ask(place, "locality", prompt, _answers(hop, "answer", place), (), "single_hop")


def _hops(record: Record) -> list[Mapping[str, Any]]:
    key = "new_single_hops"
    return [
        mapping(hop, f"{key}[{index}]") for index, hop in enumerate(listing(record.get(key), key))
    ]


def _answers(record: Record, key: str, place: str = "") -> tuple[str, ...]:
    """What `key` says, and its other names, once each."""

    def found() -> Iterator[str]:
        for name in (key, f"{key}_alias"):
            yield from aliases(record.get(name), f"{place}.{name}" if place else name)

    return tuple(dict.fromkeys(found()))


def _case(record: Record) -> str:
    """The case's number, or where there is none, the hash of what is edited and asked."""
    said = record.get("case_id")
    if said is None:
        return content_id([record.get(_REWRITES), record.get("questions")], 16)
    if isinstance(said, bool) or not isinstance(said, int | str) or not str(said).strip():
        raise Problem("case_id", "wrong_type", f"{said!r}; write a number or a name")
    return str(said).strip()


MQUAKE = Published(
    edits,
    "MQuAKE-CF.json, MQuAKE-CF-3k.json, MQuAKE-T.json and the like of MQuAKE",
    "MIT (MQuAKE)",
)
