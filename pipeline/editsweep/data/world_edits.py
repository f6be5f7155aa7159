"""Writes the edits of the `world` dataset: each one with probes on every axis."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from editsweep.core.types import EditRequest, Probe
from editsweep.data.world_facts import (
    RELATIONS,
    City,
    Country,
    Facts,
    Names,
    apart,
    number,
    pick,
    shuffled,
)
from editsweep.data.world_wording import DEMONYMS, HOPS, PROMPTS, QUESTIONS, REVERSE, STATEMENTS


@dataclass(frozen=True)
class Plan:
    """What is edited and what stays, over all splits; all mappings go by ISO code.

    `edited` has the relations of a country that are edited. `steady` are the familiar countries of
    which everything is known and nothing edited; `donors` those of them that share no fact with
    the country. `witnesses` are cities that are never moved.
    """

    facts: Facts
    edited: Mapping[str, tuple[str, ...]]
    steady: tuple[Country, ...]
    donors: Mapping[str, tuple[Country, ...]]
    witnesses: Mapping[str, tuple[City, ...]]

    def kept(self, country: Country) -> dict[str, Names]:
        """The facts of a country that no edit changes."""
        gone = self.edited[country.iso]
        return {name: value for name, value in country.facts.items() if name not in gone}


@dataclass(frozen=True)
class Change:
    """One edit: `relation` of `subject` becomes `new`, no longer `old`; `key` decides choices."""

    key: str
    relation: str
    subject: str
    new: Names
    old: Names

    def request(self, probes: Iterable[Probe]) -> EditRequest:
        """The edit with its paraphrases and `probes`."""
        return EditRequest.of(
            self.subject,
            PROMPTS[self.relation],
            self.new[0],
            self.old[0],
            (*self.paraphrases(), *probes),
            self.relation,
        )

    def paraphrases(self) -> list[Probe]:
        """A statement and a question."""
        wordings = {"statement": STATEMENTS, "question": QUESTIONS}
        return [
            Probe.of(
                "paraphrase",
                pick(wording[self.relation], self.key).format(self.subject),
                self.new,
                self.old[:1],
                facet,
            )
            for facet, wording in wordings.items()
        ]

    def reverse(self, answers: Names, unwanted: str) -> Probe:
        """The question back, whose answer is the subject and not `unwanted`."""
        pair = (answers[0], unwanted)
        first, second = pair if number(f"{self.key}|first") % 2 else pair[::-1]
        prompt = REVERSE[self.relation].format(first=first, second=second, new=self.new[0])
        return Probe.of("reverse", prompt, answers, (unwanted,))

    def portability(self, facet: str, prompt: str) -> Probe:
        """The same fact, come at in another way."""
        return Probe.of("portability", prompt, self.new, self.old[:1], facet)


def move_city(plan: Plan, city: City) -> EditRequest:
    """A city is moved to another country, where money, language and continent are others."""
    key, old = str(city), plan.facts.countries[city.iso]
    new = pick(plan.donors[city.iso], key)
    change = Change(key, "country", city.name, new.answers, old.answers)
    near = shuffled(plan.witnesses[city.iso], key)
    hops = shuffled(old.facts, key)
    hops.sort(key=lambda name: name != "currency")
    probes = [
        change.reverse(city.names, near[-1].name),
        *(
            Probe.of(
                "portability",
                HOPS[name].format(city.name),
                new.facts[name],
                old.facts[name][:1],
                "one_hop",
            )
            for name in hops[:2]
        ),
        *(
            change.portability("alias", PROMPTS["country"].format(alias))
            for alias in city.names[1:2]
        ),
        *(_about_city(plan, other, new, "neighbourhood") for other in near[:2]),
        _same_country(plan, old, new, "", key),
        _elsewhere(plan, new, {old.iso, new.iso}, key),
    ]
    return change.request(probes)


def change_country(
    plan: Plan, country: Country, relation: str, donor: Country | None
) -> EditRequest:
    """A fact of a country becomes that of `donor`, or of a steady country chosen by hash."""
    key, old = f"{country.iso}/{relation}", country.facts[relation]
    donor = donor or pick([c for c in plan.steady if apart(c.facts[relation], old)], key)
    new = donor.facts[relation]
    change = Change(key, relation, country.name, new, old)
    rivals = [c for c in plan.steady if apart(c.facts[relation], new)]
    rival = donor if relation == "capital" else pick(rivals, key)
    near = _neighbours(plan, country, relation, new)
    alias = pick(country.names[1:], key) if country.names[1:] else ""
    probes = [
        change.reverse(country.answers, rival.name),
        *(
            change.portability("one_hop", HOPS[relation].format(city.name))
            for city in plan.witnesses[country.iso][:2]
        ),
        *([change.portability("alias", PROMPTS[relation].format(alias))] if alias else []),
        *(
            [change.portability("alias", DEMONYMS[relation].format(country.demonym))]
            if country.demonym and relation in DEMONYMS
            else []
        ),
        *(_about_country(c, relation, new, "neighbourhood") for c in near),
        _same_country(plan, country, donor, relation, key),
        _elsewhere(plan, donor, {country.iso, donor.iso, *map(str, near)}, key),
    ]
    return change.request(probes)


def _neighbours(plan: Plan, country: Country, relation: str, new: Names) -> list[Country]:
    """Two others with the same object, or else of the same continent, or else any."""
    others = [
        other
        for other in plan.facts.countries.values()
        if other.iso != country.iso and apart(plan.kept(other).get(relation, new), new)
    ]
    own, place = country.facts[relation], country.facts.get("continent")
    ranked = shuffled(others, f"{country.iso}/{relation}")
    ranked.sort(
        key=lambda c: (c.facts[relation][0] != own[0], place and c.facts.get("continent") != place)
    )
    return ranked[:2]


def _about_city(plan: Plan, city: City, new: Country, facet: str) -> Probe:
    """Where a city lies that is never moved."""
    home = plan.facts.countries[city.iso]
    prompt = PROMPTS["country"].format(city.name)
    return Probe.of("locality", prompt, home.answers, (new.name,), facet)


def _about_country(country: Country, relation: str, new: Names, facet: str) -> Probe:
    """A true fact; the new object is unwanted where it is not an answer."""
    answers = country.facts[relation]
    unwanted = new[:1] if apart(answers, new) else ()
    prompt = PROMPTS[relation].format(country.name)
    return Probe.of("locality", prompt, answers, unwanted, facet)


def _same_country(plan: Plan, country: Country, new: Country, edited: str, key: str) -> Probe:
    """Another fact of the country; unwanted is what the new country has there."""
    known = [name for name in shuffled(plan.kept(country), key) if name != edited]
    known.sort(key=lambda name: not apart(country.facts[name], new.facts.get(name, ())))
    return _about_country(country, known[0], new.facts.get(known[0], ()), "other_relation")


def _elsewhere(plan: Plan, new: Country, taken: set[str], key: str) -> Probe:
    """A fact of a country that the edit has nothing to do with."""
    there = pick([c for c in plan.steady if c.iso not in taken], f"{key}|elsewhere")
    for name in shuffled((*RELATIONS, "country"), key):
        if name == "country":
            return _about_city(plan, plan.witnesses[there.iso][0], new, "unrelated")
        if name in new.facts and apart(there.facts[name], new.facts[name]):
            return _about_country(there, name, new.facts[name], "unrelated")
    raise AssertionError("a city is in one country only")
