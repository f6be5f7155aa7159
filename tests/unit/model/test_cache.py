"""What is made once: whole or not at all, and only by the first."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from editsweep.model.cache import cache_root, file_sha256, publish


def test_the_root_is_named_or_follows_the_desktop_convention(monkeypatch, tmp_path):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
    monkeypatch.delenv("EDITSWEEP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "editsweep"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path.home() / ".cache" / "editsweep"


def test_a_file_is_known_by_its_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_file_or_a_folder_is_made_once(tmp_path):
    target = tmp_path / "deep" / "file"
    assert publish(lambda path: path.write_text("one"), target) == target
    publish(lambda path: path.write_text("two"), target)
    assert target.read_text() == "one"

    def folder(path):
        (path / "inner").mkdir(parents=True)
        (path / "inner" / "x").write_text("x")

    publish(folder, tmp_path / "folder")
    assert (tmp_path / "folder" / "inner" / "x").read_text() == "x"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "folder"]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    def broken(path):
        path.mkdir()
        (path / "half").write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        publish(broken, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_race_one_stays_and_both_succeed(tmp_path):
    both = Barrier(2)

    def write(path, who):
        path.mkdir()
        both.wait(timeout=60)
        for name in ("a", "b"):
            (path / name).write_text(who)

    with ThreadPoolExecutor(2) as pool:
        made = [
            pool.submit(publish, lambda path, who=who: write(path, who), tmp_path / "target")
            for who in ("first", "second")
        ]
        assert [m.result(60) for m in made] == [tmp_path / "target"] * 2
    written = {p.read_text() for p in (tmp_path / "target").iterdir()}
    assert len(written) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def test_whoever_comes_later_does_not_replace(tmp_path):
    def slow(path):
        path.write_text("second")
        publish(lambda other: other.write_text("first"), tmp_path / "target")

    publish(slow, tmp_path / "target")
    assert (tmp_path / "target").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
