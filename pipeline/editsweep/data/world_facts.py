"""The tables of facts behind the `world` dataset, checked against their manifest."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from editsweep.errors import DataError

T = TypeVar("T")

RELATIONS = ("currency", "language", "continent", "capital")
"""What the table says about a country; each has one clear value or none."""

TABLES = ("countries.csv", "cities.csv")

Names = tuple[str, ...]
"""A thing by its usual name and then its other names."""


@dataclass(frozen=True)
class Country:
    """A country; `facts` has a relation only where it has one clear value.

    `names` are as in a sentence, with `the` where it belongs; `familiar` countries are those of
    which a small model can be expected to know the facts.
    """

    iso: str
    familiar: bool
    names: Names
    demonym: str
    facts: Mapping[str, Names]

    @property
    def name(self) -> str:
        """The usual name, e.g. `the Netherlands`."""
        return self.names[0]

    def __str__(self) -> str:
        """The ISO code."""
        return self.iso

    @property
    def answers(self) -> Names:
        """Accepted as an answer: all names, and the usual one without its article."""
        return tuple(dict.fromkeys((self.name, self.name.removeprefix("the "), *self.names)))


@dataclass(frozen=True)
class City:
    """A city; `rank` is its place by population among the cities of its country, from 0."""

    iso: str
    names: Names
    population: int
    rank: int

    def __str__(self) -> str:
        """ISO code of the country and usual name."""
        return f"{self.iso}/{self.name}"

    @property
    def name(self) -> str:
        """The usual name."""
        return self.names[0]


@dataclass(frozen=True)
class Facts:
    """Countries by ISO code, and each one's cities without its capital, largest first."""

    countries: Mapping[str, Country]
    cities: Mapping[str, tuple[City, ...]]


def number(key: str) -> int:
    """A number that only `key` decides, the same on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def pick(items: Sequence[T], key: str) -> T:
    """One of `items`, by the hash of `key`."""
    return items[number(key) % len(items)]


def shuffled(items: Iterable[T], key: str) -> list[T]:
    """`items` in an order that hangs only on `key` and their own `str`."""
    return sorted(items, key=lambda item: number(f"{key}|{item}"))


def apart(one: Names, other: Names) -> bool:
    """Whether no name of one thing is a name of the other: `dollar` does not tell two dollars."""
    return {name.casefold() for name in one}.isdisjoint(name.casefold() for name in other)


def read_facts(folder: Path) -> Facts:
    """The tables in `folder`.

    Raises:
        DataError: a table is missing or is not the one that the manifest names.
    """
    rows = _checked(folder)
    countries = {row["iso"]: _country(row) for row in rows["countries.csv"]}
    cities: dict[str, list[City]] = {iso: [] for iso in countries}
    for row in rows["cities.csv"]:
        names = tuple(row["name"].split("|"))
        here = cities[row["iso"]]
        if not set(names) & set(countries[row["iso"]].facts.get("capital", ())):
            here.append(City(row["iso"], names, int(row["population"]), len(here)))
    return Facts(countries, {iso: tuple(found) for iso, found in cities.items()})


def _country(row: Mapping[str, str]) -> Country:
    facts = {name: tuple(row[name].split("|")) for name in RELATIONS if row[name]}
    names = tuple(row["name"].split("|"))
    return Country(row["iso"], row["familiar"] == "yes", names, row["demonym"], facts)


def _checked(folder: Path) -> dict[str, list[dict[str, str]]]:
    advice = "restore the folder from the repository, or make it again with make_world_facts"
    try:
        sums = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
        raw = {name: (folder / name).read_bytes() for name in TABLES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: the tables cannot be read ({error!r}); {advice}") from error
    for name, content in raw.items():
        found = hashlib.sha256(content).hexdigest()
        if found != sums.get(name):
            raise DataError(
                f"{folder / name}: sha256 is {found}, the manifest says {sums.get(name)}; {advice}"
            )
    return {
        name: list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
        for name, content in raw.items()
    }
