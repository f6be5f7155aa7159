import shutil

import pytest

from editsweep.data.registry import load
from editsweep.data.root import datasets_root
from editsweep.data.world_facts import apart, pick, read_facts, shuffled
from editsweep.errors import DataError

FOLDER = datasets_root() / "world"


@pytest.fixture(scope="module")
def facts():
    return read_facts(FOLDER)


@pytest.mark.parametrize(
    ("iso", "relation", "name"),
    [
        ("JP", "capital", "Tokyo"),
        ("JP", "currency", "yen"),
        ("FR", "currency", "euro"),
        ("BR", "language", "Portuguese"),
        ("EG", "continent", "Africa"),
        ("GB", "currency", "British pound"),
        ("US", "capital", "Washington, D.C."),
        ("CH", "currency", "Swiss franc"),
    ],
)
def test_facts_are_true(facts, iso, relation, name):
    assert facts.countries[iso].facts[relation][0] == name


@pytest.mark.parametrize(
    ("iso", "relation"),
    [("CH", "language"), ("RU", "continent"), ("MX", "capital"), ("ZA", "capital")],
)
def test_what_has_no_clear_value_is_left_out(facts, iso, relation):
    assert relation not in facts.countries[iso].facts


def test_names_with_an_article_are_accepted_without(facts):
    dutch = facts.countries["NL"]
    assert dutch.name == "the Netherlands"
    assert dutch.answers == ("the Netherlands", "Netherlands", "Holland")


def test_cities_are_ranked_and_without_their_capital(facts):
    french = facts.cities["FR"]
    assert [city.rank for city in french] == list(range(len(french)))
    assert "Paris" not in {city.name for city in french}
    assert "Lyon" in {city.name for city in french}
    people = [city.population for city in french]
    assert people == sorted(people, reverse=True)


def test_a_city_name_stands_for_one_city(facts):
    names = [city.name for cities in facts.cities.values() for city in cities]
    assert len(names) == len(set(names)) > 5000


def test_a_shared_noun_is_not_apart(facts):
    yen, euro = (facts.countries[iso].facts["currency"] for iso in ("JP", "FR"))
    canada, america = (facts.countries[iso].facts["currency"] for iso in ("CA", "US"))
    assert apart(yen, euro)
    assert not apart(canada, america)


def test_choices_hang_on_the_key_alone():
    items = ["a", "b", "c", "d"]
    assert shuffled(items, "key") == shuffled(items[::-1], "key")
    assert sorted(shuffled(items, "key")) == items
    assert len({tuple(shuffled(items, str(i))) for i in range(20)}) > 5
    assert {pick(items, str(i)) for i in range(50)} == set(items)


def test_damaged_tables_are_refused(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "world")
    assert load("world", limit=1, path=folder) == load("world", limit=1)
    table = folder / "cities.csv"
    table.write_bytes(table.read_bytes().replace(b"Lyon", b"Lion", 1))
    with pytest.raises(DataError, match=r"cities\.csv: sha256 is .* the manifest says"):
        load("world", path=folder)
    table.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        load("world", path=folder)
