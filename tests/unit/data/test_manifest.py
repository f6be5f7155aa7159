import json

import pytest

from editsweep.core.types import AXES, TEXT_AXES
from editsweep.data.manifest import Manifest, fetched, manifest_of, place_of
from editsweep.data.registry import DATASETS, needs_file, show
from editsweep.data.root import datasets_root
from editsweep.errors import DataError

PUBLISHED = [name for name in DATASETS.table if needs_file(name)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_set_says_where_it_is_from(name, tmp_path, monkeypatch):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path))
    manifest = manifest_of(name)
    assert manifest.licence
    assert manifest.citation
    assert all(source.startswith("arXiv:") for source in manifest.citation)
    assert set(manifest.axes) <= {*AXES, *TEXT_AXES}
    assert manifest.published
    for file in manifest.published:
        assert file.url.startswith("https://")
        assert " " not in file.url
        assert file.sha256_from
        assert file.sha256 is None or len(file.sha256) == 64
        assert file.revision is None or len(file.revision) == 40
        assert (file.host == "web") == (not file.repository)
    card = json.loads(json.dumps(show(name)))
    assert card["records"] is None
    assert card["manifest"]["published"][0]["url"] == manifest.published[0].url


def test_two_names_may_share_a_card():
    assert manifest_of("zsre-answers") == manifest_of("zsre")


@pytest.mark.parametrize("name", ["nothing", "a/b.jsonl", "lecture"])
def test_what_has_no_manifest_has_an_empty_one(name):
    assert manifest_of(name) == Manifest()
    assert fetched(name) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"published": [{"hst": "hub"}]}'])
def test_a_damaged_one_is_named(tmp_path, monkeypatch, text):
    (tmp_path / "zsre").mkdir()
    (tmp_path / "zsre" / "manifest.json").write_text(text)
    monkeypatch.setenv("EDITSWEEP_DATASETS", str(tmp_path))
    with pytest.raises(DataError, match=r"zsre.manifest\.json: damaged"):
        manifest_of("zsre")


def test_what_was_fetched_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path))
    manifest = manifest_of("wikibio")
    second = place_of(manifest, manifest.published[1])
    second.parent.mkdir(parents=True)
    second.write_text("[]")
    assert fetched("wikibio") == second
    assert datasets_root() not in second.parents
