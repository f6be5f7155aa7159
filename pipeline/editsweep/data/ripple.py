"""RippleEdits: what follows from an edit, asked only where the unedited model knows what it takes.

Cohen et al. 2023 (arXiv 2307.12976, section 3). An edit is published as a sentence (`The gender of X
is Y.`) and the Wikidata ids of subject and target; the words of both are found in the sentence, by
the way in which its relation is phrased.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from editsweep.core.types import Axis, EditRequest
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
from editsweep.data.published import Published, Questions, Record, old_target
from editsweep.data.reading import Note

_CRITERIA: Mapping[str, tuple[Axis, str]] = {
    "Logical_Generalization": ("portability", "logical"),
    "Subject_Aliasing": ("portability", "alias"),
    "Compositionality_I": ("portability", "compositionality_1"),
    "Compositionality_II": ("portability", "compositionality_2"),
    "Relation_Specificity": ("locality", "relation_specificity"),
    "Relation_Specifity": ("locality", "relation_specificity"),
    "Forgetfulness": ("locality", "forgetfulness"),
}
# Of most relations the sentence is `The [name of the] NOUN of S is T`; of these it is another.
_WORDED: Mapping[str, tuple[str, str]] = {
    "NUMBER_OF_CHILDREN": ("The number of children", "has is"),
    "SEX_OR_GENDER": ("The gender of", "is"),
    "COUNTRY": ("The name of the country which", "is associated with is"),
    "ETHNIC_GROUP": ("The name of the ethnic group which", "is associated with is"),
    "RELIGION": ("The name of the religion which", "is associated with is"),
    "POSITION_HELD": ("The name of the position held by", "is"),
    "MEMBER_OF_SPORTS_TEAM": ("The name of the sports team which", "is a member of is"),
    "LEAGUE": ("The name of the league which", "plays in is"),
    "NATIVE_LANGUAGE": ("The mother tongue of", "is"),
    "AWARD_RECEIVED": ("The name of the award", "won is"),
    "CONTINENT": ("The name of the continent which", "is part of is"),
    "CAPITAL": ("The name of the capital city of", "is"),
    "CAPITAL_OF": ("The name of the country which", "is the capital of is"),
    "CURRENCY": ("The name of the currency in", "is"),
    "LIKELY_ANTHEM": ("The name of the anthem that is most likely to be performed in", "is"),
    "FOLLOWS": ("", "follows"),
    "FOLLOWED_BY": ("", "is followed by"),
}
_OLD = ("previous_fact", "original_fact")


class _Fact(NamedTuple):
    """What a sentence says: `subject` None if it cannot be found in `question`."""

    subject: str | None
    prompt: str
    target: str

    @property
    def question(self) -> str:
        return self.prompt if self.subject is None else self.prompt.replace("{}", self.subject)


def edits(record: Record, note: Note) -> Iterable[EditRequest]:
    """The edit of one record.

    Each question of a test is a probe, whether all or any of a test's have to be answered. A probe
    needs the test's conditions; the published code asks them of the unedited model too. Of several
    answers that a question has, published code wants all; here each is an accepted one.

    Raises:
        Problem: a field is missing, empty or of the wrong type, or the target is not found.
    """
    if "edit" not in record:
        raise Problem("edit", "missing", "is missing; every record needs it")
    edit = mapping(record["edit"], "edit")
    tests = list(_tests(record))
    same = [q for test in tests for q in test.queries if q.get("subject_id") == _id(edit)]
    texts = [text for query in same if isinstance(text := query.get("prompt"), str)]
    old_key = next((key for key in _OLD if edit.get(key) is not None), None)
    old = None if old_key is None else mapping(edit[old_key], f"edit.{old_key}")
    if old is not None and isinstance(old.get("prompt"), str):
        texts.append(old["prompt"])
    new = _fact(edit, "edit", texts, note)
    truth = [] if old is None else _told(old, f"edit.{old_key}", new)
    before = old_target(new.target, truth, note, "edit.prompt")
    asked = Questions(note)
    for test in tests:
        _ask(test, asked, new, before)
    relation = optional(edit, "relation", "edit") or ""
    return [
        EditRequest.of(new.subject, new.prompt, new.target, before, asked.probes.values(), relation)
    ]


class _Test(NamedTuple):
    """One test of a criterion with its place in the record."""

    name: str
    place: str
    queries: list[Record]
    conditions: list[Record]


def _tests(record: Record) -> Iterator[_Test]:
    for name in _CRITERIA:
        for index, value in enumerate(listing(record.get(name), name)):
            place = f"{name}[{index}]"
            test = mapping(value, place)
            queries, conditions = (
                [
                    mapping(query, f"{place}.{key}[{i}]")
                    for i, query in enumerate(listing(test.get(key), f"{place}.{key}"))
                ]
                for key in ("test_queries", "condition_queries")
            )
            yield _Test(name, place, queries, conditions)


def _ask(test: _Test, asked: Questions, new: _Fact, old: str | None) -> None:
    """The probes of one test, and the conditions that they need."""
    axis, facet = _CRITERIA[test.name]
    if len(test.queries) > 1:
        message = f"{len(test.queries)} questions in one test; each is a probe of its own"
        asked.note(f"{test.place}.test_queries", "several_queries", message)
    known = [
        (text, answers)
        for index, query in enumerate(test.conditions)
        for text, answers, _ in [_query(query, f"{test.place}.condition_queries[{index}]")]
        if text and answers
    ]
    needs = tuple(dict.fromkeys(asked.condition(*condition) for condition in known))
    for index, query in enumerate(test.queries):
        place = f"{test.place}.test_queries[{index}]"
        text, answers, things = _query(query, place)
        unwanted: list[str | None] = []
        if axis == "portability" and (text, answers) in known:
            message = "the unedited model has to answer it as the edited one"
            asked.note(place, "condition_is_test", message)
        if facet == "alias":
            unwanted = [old]
        elif facet == "forgetfulness":
            others = [names for names in things if same_text(new.target) not in _same(names)]
            if len(others) < len(things):
                message = f"{quoted(new.target)} is excluded and accepted; it is taken out"
                asked.note(place, "answer_is_target", message)
            answers, unwanted = tuple(dict.fromkeys(chain(*others))), [new.target]
        asked.ask(place, axis, text, answers, unwanted, facet, needs)


def _query(query: Record, place: str) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    """The text of a question, all names of its answers, and these by answer.

    A name of one letter is no answer, as in the published code.
    """
    things = []
    for index, value in enumerate(listing(query.get("answers"), f"{place}.answers")):
        field = f"{place}.answers[{index}]"
        answer = mapping(value, field)
        names = aliases([answer.get("value"), answer.get("aliases")], field)
        things.append(tuple(name for name in names if len(name) > 1 or name.isdigit()))
    text = optional(query, "prompt", place) or ""
    return text, tuple(dict.fromkeys(name for names in things for name in names)), things


def _fact(edit: Record, place: str, texts: list[str], note: Note) -> _Fact:
    """Subject, prompt and target of the sentence that is to become true.

    Where it can be read in several ways, `texts`, which are about the same subject, decide.
    """
    sentence = needed(edit, "prompt", place).removesuffix(".")
    relation = optional(edit, "relation", place) or ""
    ways = [fact for form in _forms(relation) for fact in _readings(sentence, *form)]
    if ways:
        return max(ways, key=lambda fact: _support(fact.subject or "", texts))
    found = re.search(r"^(.+ (?:is|are)) (\S.*)$", sentence)
    if found is None:
        raise Problem(f"{place}.prompt", "no_target", f"{quoted(sentence)}: no place for a target")
    note(
        f"{place}.prompt",
        "no_subject",
        f"{quoted(sentence)} is not how {quoted(relation)} is phrased; its subject is not known",
    )
    return _Fact(None, found[1], found[2])


def _support(subject: str, texts: Iterable[str]) -> tuple[int, int]:
    """In how many of `texts` it stands; of equals the longest, or without any the shortest."""
    found = sum(subject in text for text in texts)
    return found, len(subject) if found else -len(subject)


def _told(old: Record, place: str, new: _Fact) -> list[str]:
    """The target of the sentence that was true, which begins as the new one does."""
    sentence = needed(old, "prompt", place).removesuffix(".")
    start = f"{new.question} "
    return [text] if sentence.startswith(start) and (text := sentence[len(start) :].strip()) else []


def _forms(relation: str) -> list[tuple[str, str]]:
    """What stands before and after the subject where the relation is said."""
    if relation in _WORDED:
        return [_WORDED[relation]]
    noun = relation.lower().replace("_", " ")
    return [
        (f"The name of the {noun} of", "is"),
        (f"The names of the {noun}s of", "are"),
        (f"The {noun} of", "is"),
    ]


def _readings(sentence: str, before: str, after: str) -> Iterator[_Fact]:
    """Every way to tell subject and target apart, the shortest subject first."""
    lead = f"{before} " if before else ""
    if not sentence.startswith(lead):
        return
    rest = sentence[len(lead) :]
    for found in re.finditer(rf"(?= {re.escape(after)} )", rest):
        subject = rest[: found.start()].strip()
        target = rest[found.start() + len(after) + 2 :].strip()
        if subject and target:
            yield _Fact(subject, f"{lead}{{}} {after}", target)


def _same(names: Iterable[str]) -> set[str]:
    return {same_text(name) for name in names}


def _id(edit: Mapping[str, Any]) -> Any:
    return edit.get("subject_id", edit)


RIPPLEEDITS = Published(
    edits, "popular.json, random.json and recent.json of RippleEdits", "MIT (RippleEdits)"
)
