"""CounterFact as published with ROME, with the additions of later work, and as EasyEdit's flat list.

Meng et al. 2022. One structure serves the original file and those with one-hop questions
(`portability`), with another name of the subject (`alternative_subject`), and with neighbours after
the edit's own sentence (`distracting_neighborhood_prompts`).
"""

from collections.abc import Iterable

from editsweep.core.types import EditRequest
from editsweep.data.fields import (
    Problem,
    aliases,
    clean,
    listing,
    mapping,
    needed,
    optional,
    quoted,
)
from editsweep.data.published import Published, Questions, Record, hop, old_target, template
from editsweep.data.reading import Note


def edits(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record in the original structure.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    place = "requested_rewrite"
    if place not in record:
        raise Problem(place, "missing", "is missing; is this the flat form, counterfact-flat?")
    rewrite = mapping(record[place], place)
    subject, prompt = needed(rewrite, "subject", place), needed(rewrite, "prompt", place)
    if prompt.count("{}") != 1:
        kind = "many_subjects" if "{}" in prompt else "no_subject"
        raise Problem(f"{place}.prompt", kind, f"{quoted(prompt)} does not have {{}} once")
    new, true = _object(rewrite, "target_new"), _object(rewrite, "target_true")
    old = old_target(new, [true], note, f"{place}.target_new")
    asked = Questions(note)
    asked.ask_all(
        "paraphrase_prompts", "paraphrase", record.get("paraphrase_prompts"), [new], [old]
    )
    _implied(record, asked, prompt, new, old)
    for key, facet in (
        ("neighborhood_prompts", "neighbourhood"),
        ("distracting_neighborhood_prompts", "distractor"),
    ):
        asked.ask_all(key, "locality", record.get(key), [true], [new], facet)
    key = "attribute_prompts"
    asked.ask_all(key, "locality", record.get(key), [new], [old], "attribute")
    if (unrelated := record.get("unrelated_relation")) is not None:
        key = "unrelated_relation"
        other = mapping(unrelated, key)
        answer = optional(other, "object", key)
        asked.ask(
            key, "locality", optional(other, "question", key) or "", [answer], facet="unrelated"
        )
    _beginnings(record, asked)
    relation = optional(rewrite, "relation_id", place) or ""
    return [EditRequest.of(subject, prompt, new, old, asked.probes.values(), relation)]


def flat(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of the flat form; its relation is its prompt without the subject.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    subject, prompt = template(needed(record, "prompt"), needed(record, "subject"), note, "prompt")
    new, truth = needed(record, "target_new"), aliases(record.get("ground_truth"), "ground_truth")
    old = old_target(new, truth, note, "target_new")
    asked = Questions(note)
    key = "rephrase_prompt"
    asked.ask_all(key, "paraphrase", record.get(key), [new], [old])
    key = "locality_prompt"
    answers = aliases(record.get("locality_ground_truth"), "locality_ground_truth")
    asked.ask_all(key, "locality", record.get(key), answers, [new], "neighbourhood")
    relation = prompt if subject else ""
    return [EditRequest.of(subject, prompt, new, old, asked.probes.values(), relation)]


def _implied(record: Record, asked: Questions, prompt: str, new: str, old: str | None) -> None:
    """The edit under another name of its subject, and one step further."""
    if other := optional(record, "alternative_subject"):
        renamed = prompt.replace("{}", other)
        asked.ask("alternative_subject", "portability", renamed, [new], [old], "alias")
    hop(record, asked)


def _beginnings(record: Record, asked: Questions) -> None:
    """Beginnings of texts about the subject, each once: a repeat asks ROME for one more sample."""
    key = "generation_prompts"
    prompts = enumerate(listing(record.get(key), key))
    for prompt in dict.fromkeys(clean(p, f"{key}[{i}]", empty=True) for i, p in prompts):
        asked.ask(key, "fluency", prompt, None)


def _object(rewrite: Record, key: str) -> str:
    place = f"requested_rewrite.{key}"
    return needed(mapping(rewrite.get(key), place), "str", place)


_LICENCE = "MIT (ROME and EasyEdit, which carry it)"

COUNTERFACT = Published(edits, "counterfact.json of ROME and its variants in EasyEdit", _LICENCE)
COUNTERFACT_FLAT = Published(flat, "counterfact-edit.json and the like of EasyEdit", _LICENCE)
