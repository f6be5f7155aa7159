"""known_1000 (Meng et al. 2022): facts that GPT-2 XL knows, for tracing where a model keeps them."""

from collections.abc import Iterable

from editsweep.core.types import EditRequest
from editsweep.data.fields import needed, optional, same_text
from editsweep.data.published import Published, Record, remade, template
from editsweep.data.reading import Note
from editsweep.data.world_facts import pick


def edits(record: Record, note: Note) -> Iterable[EditRequest]:
    """The fact of one record; the file has no new target, `to_others` finds one.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    # The prompt and not its template, which lacks the words right before the answer.
    subject, prompt = template(needed(record, "prompt"), needed(record, "subject"), note, "prompt")
    known = needed(record, "attribute")
    relation = optional(record, "relation_id") or ""
    return [EditRequest.of(subject, prompt, known, known, relation=relation)]


def to_others(requests: tuple[EditRequest, ...]) -> tuple[EditRequest, ...]:
    """Each edit to what another record has for the same relation, or for any where it is alone."""
    by_relation: dict[str, dict[str, str]] = {}
    for request in requests:
        known = by_relation.setdefault(request.relation, {})
        known.setdefault(same_text(request.target_new), request.target_new)
    anything = {key: text for known in by_relation.values() for key, text in known.items()}
    made = []
    for request in requests:
        own = same_text(request.target_new)
        others = {**by_relation[request.relation]}
        others.pop(own)
        others = others or {key: text for key, text in anything.items() if key != own}
        # A file of one record has nothing else to say; it is edited to what it knows.
        new = pick([*others.values()] or [request.target_new], request.question)
        made.append(remade(request, new, ()))
    return tuple(made)


KNOWN_1000 = Published(edits, "known_1000.json of ROME", "MIT (ROME)", finish=to_others)
