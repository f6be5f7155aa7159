import json
from pathlib import Path

import pytest

from editsweep.core.ids import content_id
from editsweep.data.dataset import Dataset, Fault
from editsweep.data.own_format import write_edits
from editsweep.data.registry import load, open_source, parse_source, show, splits
from editsweep.data.root import datasets_root
from editsweep.errors import ConfigError, DataError


@pytest.fixture
def user_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    write_edits(load("lecture").requests[:3], path)
    return path


@pytest.mark.parametrize(
    ("source", "name", "split"),
    [
        ("world", "world", "test"),
        ("world:train", "world", "train"),
        ("a/b.jsonl", "a/b.jsonl", "test"),
        ("a/b.jsonl:all", "a/b.jsonl", "all"),
        ("C:/a/b.jsonl", "C:/a/b.jsonl", "test"),
        ("C:\\b.jsonl", "C:\\b.jsonl", "test"),
    ],
)
def test_parse_source(source, name, split):
    assert parse_source(source) == (name, split, None)


@pytest.mark.parametrize(
    ("source", "name", "split", "path"),
    [
        ("zsre@a/b.json", "zsre", "test", "a/b.json"),
        ("zsre:all@b.json.gz", "zsre", "all", "b.json.gz"),
        ("world:train@C:/me@home", "world", "train", "C:/me@home"),
        ("zsre@b.txt", "zsre", "test", "b.txt"),
    ],
)
def test_a_source_can_name_a_file(source, name, split, path):
    assert parse_source(source) == (name, split, Path(path))


@pytest.mark.parametrize("source", ["", ":train", "world:"])
def test_half_a_source_is_refused(source):
    with pytest.raises(ConfigError, match="NAME:SPLIT"):
        parse_source(source)


@pytest.mark.parametrize("source", ["zrse@b.json", "zrse@b.jsonl"])
def test_a_path_belongs_to_a_dataset(source):
    with pytest.raises(ConfigError, match="did you mean 'zsre'"):
        load(source)
    with pytest.raises(ConfigError, match="did you mean 'zsre'"):
        parse_source(source)


def test_a_path_is_said_once():
    with pytest.raises(ConfigError, match="after @"):
        load("zsre@")
    with pytest.raises(ConfigError, match="only one"):
        load("zsre@a.json", path=Path("b.json"))


def test_what_is_not_shipped_wants_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="zsre@FILE"):
        load("zsre")
    card = show("zsre")
    assert (card["records"], card["splits"], card["licence"][:3]) == (None, {}, "MIT")


def test_a_file_may_have_a_mark_in_its_name(user_file):
    path = user_file.rename(user_file.with_name("me@home.jsonl"))
    assert len(load(str(path)).requests) == 3


def test_limit_takes_the_first():
    whole, some = load("world"), load("world", limit=7)
    assert some.requests == whole.requests[:7]
    assert some.digest == content_id([request.edit_id for request in some.requests])
    assert some.digest != whole.digest
    assert open_source("world:test", 7) == some
    with pytest.raises(ConfigError, match="limit 0"):
        load("world", limit=0)


def test_names_and_splits_get_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown dataset 'wrold'; did you mean 'world'"):
        load("wrold")
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        load("world", "trian")
    with pytest.raises(ConfigError, match="valid: all"):
        load("lecture", "train")
    assert [splits(name) for name in ("world", "lecture", "zsre")] == [
        ("train", "test"),
        ("all",),
        ("all",),
    ]


def test_a_file_is_a_dataset(user_file):
    data = load(str(user_file))
    assert (data.name, data.split, len(data.requests)) == ("mine", "all", 3)
    assert load(str(user_file), "all") == data
    assert data.requests == load("lecture", limit=3).requests
    with pytest.raises(DataError, match="cannot be read"):
        load(str(user_file.with_name("other.jsonl")))


def test_bad_records_are_kept_as_faults(user_file):
    with user_file.open("a", encoding="utf-8") as file:
        file.write("{}\n")
    with pytest.raises(DataError, match=r"mine\.jsonl:4: prompt: is missing"):
        load(str(user_file))
    data = load(str(user_file), limit=2, skip_bad=True)
    assert (len(data.requests), len(data.faults)) == (2, 1)
    assert show(str(user_file))["faults"] == {"missing": 1}


def test_nothing_usable_is_an_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    with pytest.raises(DataError, match="no usable record"):
        load(str(path), skip_bad=True)


def test_card_counts_all_splits():
    card = show("world")
    assert json.loads(json.dumps(card)) == card
    assert card["records"] == sum(card["splits"].values()) == sum(card["relations"].values())
    assert card["probes"]["reliability"] == {"": card["records"]}
    assert card["probes"]["locality"]["neighbourhood"] == 2 * card["records"]
    assert "GeoNames" in card["licence"]
    assert card["faults"] == {}


def test_fault_and_digest_are_plain():
    assert str(Fault("a.jsonl", 3, "prompt", "empty", "is empty")) == "a.jsonl:3: prompt: is empty"
    assert str(Fault("a.jsonl", 3, "", "x", "not JSON")) == "a.jsonl:3: not JSON"
    assert Dataset.of("a", "all", ()).digest == content_id([])


def test_root_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv("EDITSWEEP_DATASETS", str(tmp_path))
    assert datasets_root() == tmp_path
    with pytest.raises(DataError, match="cannot be read"):
        load("lecture")
    monkeypatch.setenv("EDITSWEEP_DATASETS", str(tmp_path / "none"))
    with pytest.raises(DataError, match="EDITSWEEP_DATASETS"):
        datasets_root()
    monkeypatch.delenv("EDITSWEEP_DATASETS")
    assert (datasets_root() / "world").is_dir()
