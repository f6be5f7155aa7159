"""The six sets of KnowEdit (Zhang et al. 2024), each in its own structure."""

from collections.abc import Iterable, Iterator
from typing import Any

from editsweep.core.types import EditRequest, Probe
from editsweep.data.fields import (
    Problem,
    aliases,
    listing,
    mapping,
    needed,
    optional,
    quoted,
    same_text,
)
from editsweep.data.published import Published, Questions, Record, old_target, remade, template
from editsweep.data.reading import Note

_FACETS = {"Subject_Aliasing": "alias", "Logical_Generalization": "logical"}
_IDLE = "What do you think of {}?"
_SENTENCES = 5
"""So many sentences of each sentiment are scored, the first of the file after the target."""


def facts(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of wiki_recent or wiki_counterfact.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    return [_fact(record, note, back="")]


def zsre(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of KnowEdit's zsRE, where what is called logical is the way back.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    return [_fact(record, note, back="Logical_Generalization")]


def wikibio(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of WikiBio: the next sentence of a passage about a person.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    subject, prompt = template(needed(record, "text"), needed(record, "concept"), note, "text")
    new = needed(record, "labels")
    asked = Questions(note)
    _locality(record, asked, new)
    return [EditRequest.of(subject, prompt, new, probes=asked.probes.values())]


def convsent(record: Record, note: Note) -> Iterable[EditRequest]:
    """A liking for `ent` in place of a dislike: the first sentence of each list.

    Whether the liking carries over is read off other sentences (`metrics/sentiment.py`).

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    subject = needed(record, "ent")
    liked, disliked = aliases(record.get("pos"), "pos"), aliases(record.get("neg"), "neg")
    if not liked:
        raise Problem("pos", "empty", "there is no sentence to edit towards")
    old = old_target(liked[0], disliked, note, "pos")
    edit = EditRequest.of(subject, _IDLE, liked[0], old)
    others, asked = liked[1 : _SENTENCES + 1], Questions(note)
    unwanted = disliked[:_SENTENCES]
    asked.ask("pos", "reliability", edit.question, others, unwanted, "sentiment")
    return [remade(edit, edit.target_new, asked.probes.values())]


def about_others(requests: tuple[EditRequest, ...]) -> tuple[EditRequest, ...]:
    """Each edit with the question about the next record's subject, to be answered as before."""
    made = []
    for request, other in zip(requests, (*requests[1:], *requests[:1]), strict=True):
        probes = [Probe.of("locality", other.question, facet="other_subject")]
        if same_text(other.question) == same_text(request.question):
            probes = []
        made.append(remade(request, request.target_new, (*request.probes, *probes)))
    return tuple(made)


def sanitation(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record of Sanitation: a refusal in place of a fact.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    question, subject = needed(record, "question"), optional(record, "subject")
    found, prompt = template(question, subject, note, "question")
    new, truth = needed(record, "target_new"), aliases(record.get("ground_truth"), "ground_truth")
    asked = Questions(note)
    for index, other in enumerate(listing(record.get("locality"), "locality")):
        place = f"locality[{index}]"
        kept = mapping(other, place)
        answers = aliases(kept.get("ground_truth"), f"{place}.ground_truth")
        asked.ask(
            place, "locality", optional(kept, "question", place) or "", answers, [new], "retain"
        )
    asked.ask("question", "reliability", question, [new], truth, "refusal")
    old = old_target(new, truth, note, "target_new")
    return [EditRequest.of(found, prompt, new, old, asked.probes.values())]


def shared_out(value: Any) -> Iterator[tuple[str, Any]]:
    """The edits of a file that is one object with two lists, each with its share of the other."""
    for gone, kept in (("success", "locality"), ("K_F", "K_R")):
        if isinstance(value, dict) and gone in value:
            edited, others = listing(value[gone], gone), listing(value.get(kept), kept)
            for index, record in enumerate(edited):
                share = others[index :: len(edited)]
                full = {**record, "locality": share} if isinstance(record, dict) else record
                yield f"{gone}[{index}]", full
            return
    yield "", value


def _fact(record: Record, note: Note, back: str) -> EditRequest:
    subject, prompt = template(needed(record, "prompt"), needed(record, "subject"), note, "prompt")
    new = needed(record, "target_new")
    truth = aliases(record.get("ground_truth"), "ground_truth")
    old = old_target(new, truth, note, "target_new")
    asked = Questions(note)
    for key in ("rephrase", "rephrase_prompt"):
        asked.ask_all(key, "paraphrase", record.get(key), [new], [old])
    for name, place, text, value in _items(record, "portability"):
        answers = aliases(value, f"{place}.ground_truth")
        if name == back:
            asked.ask(place, "reverse", text, answers)
        else:
            unwanted = [old] if name == "Subject_Aliasing" else []
            asked.ask(place, "portability", text, answers, unwanted, _facet(name))
    _locality(record, asked, new)
    relation = prompt if subject else ""
    return EditRequest.of(subject, prompt, new, old, asked.probes.values(), relation)


def _locality(record: Record, asked: Questions, new: str) -> None:
    """Questions that ask for another answer than the new one must not accept that."""
    for name, place, text, value in _items(record, "locality"):
        answers = aliases(value, f"{place}.ground_truth")
        unwanted: list[str] = []
        if name == "Forgetfulness":
            others = _without(value, new, f"{place}.ground_truth")
            if others != answers:
                message = f"{quoted(new)} is excluded by the question and accepted; it is taken out"
                asked.note(place, "answer_is_target", message)
            answers, unwanted = others, [new]
        asked.ask(place, "locality", text, answers, unwanted, _facet(name))


def _items(record: Record, key: str) -> Iterator[tuple[str, str, str, Any]]:
    """Name, place, question and answers of everything that is asked under `key`."""
    if record.get(key) is None:
        return
    for name, asked in mapping(record[key], key).items():
        for index, item in enumerate(listing(asked, f"{key}.{name}")):
            place = f"{key}.{name}[{index}]"
            fields = mapping(item, place)
            yield name, place, optional(fields, "prompt", place) or "", fields.get("ground_truth")


def _without(value: Any, new: str, field: str) -> tuple[str, ...]:
    """The accepted answers but `new`, and without all other names of what `new` names."""
    things = (
        [aliases(v, field) for v in value] if isinstance(value, list) else [aliases(value, field)]
    )
    kept = [names for names in things if same_text(new) not in map(same_text, names)]
    return tuple(dict.fromkeys(name for names in kept for name in names))


def _facet(name: str) -> str:
    return _FACETS.get(name, name.lower())


_LICENCE = "MIT (KnowEdit on the Hugging Face hub, and EasyEdit)"


def _set(edits: Any, file: str, **more: Any) -> Published:
    return Published(edits, f"{file} of KnowEdit", _LICENCE, **more)


WIKIDATA_RECENT = _set(facts, "wiki_recent/recent_test.json")
WIKIDATA_COUNTERFACT = _set(facts, "wiki_counterfact/test_cf.json")
ZSRE = _set(zsre, "ZsRE/ZsRE-test-all.json")
WIKIBIO = _set(wikibio, "WikiBio/wikibio-test-all.json")
CONVSENT = _set(convsent, "convsent/blender_test.json", finish=about_others)
SANITATION = _set(sanitation, "Sanitation/trivia_qa_test.json", unfold=shared_out)
