import pytest

from editsweep.core.names import flat, nested, safe_name, unknown
from editsweep.errors import ConfigError


def test_the_nearest_name_is_offered():
    error = unknown("editor", "rmoe", ["rome", "ft", "ike"])
    assert isinstance(error, ConfigError)
    assert str(error) == "unknown editor 'rmoe'; did you mean 'rome'? (valid: ft, ike, rome)"


def test_nothing_is_offered_when_nothing_is_near():
    assert str(unknown("editor", "zzz", ["rome", "ft"])) == "unknown editor 'zzz' (valid: ft, rome)"


@pytest.mark.parametrize("name", ["demo", "SmolLM2-135M.v1", "_x", "7", "a" * 100])
def test_a_name_that_can_be_a_folder_is_kept(name):
    assert safe_name("sweep", name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-rf", "a/b", "../up", "a b", "a\n", "a\0", "é", "a" * 101],
)
def test_a_name_that_cannot_is_refused(name):
    with pytest.raises(ConfigError, match=r"sweep .* cannot name a folder"):
        safe_name("sweep", name)


def test_flat_and_nested_are_each_others_reverse():
    whole = {"a": 1, "b": {"c": {"d": [2]}, "e": {}}}
    assert flat(whole) == {"a": 1, "b.c.d": [2], "b.e": {}}
    assert nested(flat(whole)) == whole
    assert nested({"b": {"c": 1}, "b.d": 2}) == {"b": {"c": 1, "d": 2}}


@pytest.mark.parametrize(
    "twice", [{"a": {"b": 1}, "a.b": 2}, {"a": 1, "a.b": 2}, {"a.b": 1, "a": 2}]
)
def test_a_value_that_stands_twice_is_refused(twice):
    with pytest.raises(ConfigError, match="more than once"):
        nested(twice)
