"""The `world` dataset: which facts are edited, in which split and order.

An edit moves one thing of a country to the value that another country has: a city to another
country, or a country's currency, language, continent or capital. `world_edits` writes the edits.

Whatever a probe takes for granted, no edit of the dataset touches: neighbours are cities that are
never moved, and facts about countries are taken where no edit changes them. So every answer stays
true when all edits of a split go into one model.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from editsweep.core.types import EditRequest
from editsweep.data.dataset import Read
from editsweep.data.root import datasets_root
from editsweep.data.world_edits import Plan, change_country, move_city
from editsweep.data.world_facts import (
    RELATIONS,
    City,
    Country,
    Facts,
    apart,
    number,
    read_facts,
    shuffled,
)

WITNESSES, KNOWN = 3, 12
"""Of the `KNOWN` largest cities of each country, so many are never moved."""
BLOCK, TESTED = 10, 3
"""Of each ten countries of like size, so many are for the test split."""
CHANGED = {True: 3, False: 2}
"""One in so many countries is changed, of the familiar ones and of the others."""
LARGE_RANK, LARGE = 10, 300_000
"""Rank in its country and population of a city that is likely to be known."""


@dataclass(frozen=True)
class World:
    """The loader behind `world`."""

    splits: tuple[str, ...] = ("train", "test")
    licence: str = "CC-BY-4.0 (GeoNames), Unicode-3.0 (CLDR)"
    source: str = "GeoNames, Unicode CLDR and a hand-written table of countries"

    def read(self, split: str, path: Path | None, skip_bad: bool) -> Read:
        """One split, built from the tables in `path` or in the shipped folder.

        Raises:
            DataError: the tables are missing or damaged.
        """
        facts = read_facts(path or datasets_root() / "world")
        isos = [iso for iso, home in divide(facts).items() if home == split]
        return Read(tuple(build(facts, isos)))


WORLD = World()


def divide(facts: Facts) -> dict[str, str]:
    """The split of each country, by ISO code: `test` for three of ten of like size."""
    by_size = sorted(facts.countries, key=lambda iso: (-len(facts.cities[iso]), iso))
    home = {}
    for start in range(0, len(by_size), BLOCK):
        for i, iso in enumerate(shuffled(by_size[start : start + BLOCK], "split")):
            home[iso] = "test" if i < TESTED else "train"
    return home


def make_plan(facts: Facts) -> Plan:
    """What is edited and what stays, over both splits.

    A country that is changed loses two facts and keeps at least one.
    """
    edited: dict[str, tuple[str, ...]] = dict.fromkeys(facts.countries, ())
    for familiar, step in CHANGED.items():
        group = [iso for iso, c in facts.countries.items() if c.familiar is familiar]
        for iso in shuffled(group, "edited")[::step]:
            known = shuffled(facts.countries[iso].facts, iso)
            edited[iso] = tuple(known[: min(2, len(known) - 1)])
    steady = [
        country
        for iso, country in facts.countries.items()
        if country.familiar and not edited[iso] and set(country.facts) == set(RELATIONS)
    ]
    donors = {
        iso: tuple(
            other
            for other in steady
            if other.iso != iso
            and all(apart(other.facts[name], own) for name, own in country.facts.items())
        )
        for iso, country in facts.countries.items()
    }
    witnesses = {
        iso: tuple(shuffled(cities[:KNOWN], iso)[:WITNESSES])
        for iso, cities in facts.cities.items()
    }
    return Plan(facts, edited, tuple(steady), donors, witnesses)


def build(facts: Facts, isos: Iterable[str]) -> Iterator[EditRequest]:
    """The edits of some countries: well-known cities first, countries' facts spread among them."""
    plan, isos = make_plan(facts), sorted(isos)
    movers = [c for iso in isos for c in facts.cities[iso] if c not in plan.witnesses[iso]]
    movers.sort(key=lambda city: (_obscurity(facts, city), number(str(city))))
    changes = shuffled([f"{iso} {name}" for iso in isos for name in plan.edited[iso]], "order")
    # Each capital goes to one country only, so that "Tokyo is the capital of" has one answer.
    capitals = iter(_capital_donors(plan))
    changed = []
    for change in changes:
        iso, relation = change.split()
        donor = next(capitals) if relation == "capital" else None
        changed.append(change_country(plan, facts.countries[iso], relation, donor))
    return _woven((move_city(plan, city) for city in movers), changed)


def _capital_donors(plan: Plan) -> list[Country]:
    """Countries that keep their capital, the familiar ones first."""
    found = [c for c in plan.facts.countries.values() if "capital" in plan.kept(c)]
    return sorted(shuffled(found, "capitals"), key=lambda c: not c.familiar)


def _obscurity(facts: Facts, city: City) -> int:
    """How many signs there are that a small model does not know where a city lies."""
    familiar = facts.countries[city.iso].familiar
    return (not familiar) + (city.rank >= LARGE_RANK) + (city.population < LARGE)


def _woven(many: Iterable[EditRequest], few: Iterable[EditRequest]) -> Iterator[EditRequest]:
    """Two of `many`, then one of `few`, until these run out."""
    rest = iter(few)
    for i, request in enumerate(many):
        yield request
        if i % 2:
            yield from islice(rest, 1)
    yield from rest
