"""Units that are kept together: each whole, in any group the same, and a fault takes only its own."""

import errno
import os
from pathlib import Path

import pytest

from editsweep.core import schema
from editsweep.errors import StoreError
from editsweep.store import durable
from editsweep.store.store import Done, SweepStore


def done(unit: str, value: str = "x") -> Done:
    keys = {"sweep_id": "s", "cell_id": "c", "unit_id": unit, "edit_id": f"{unit}e"}
    fact = {"prompt": value, "target_new": "x", "relation": "", "status": "ok"}
    rows = {"edits": [keys | fact | {"position": 0, "group": 0}]}
    parts = {
        kind: schema.to_ipc(schema.table(wanted, rows.get(kind, [])))
        for kind, wanted in schema.PARTS.items()
    }
    return Done(unit, parts, 1, 0.5, "h")


def prompts(store: SweepStore) -> list[str]:
    return [row["prompt"] for row in store.table("edits").to_pylist()]


def test_a_group_is_kept_as_one_after_another_would_be(tmp_path: Path) -> None:
    units = [done(f"u{i:02}") for i in range(40)]
    with SweepStore(tmp_path / "group").locked() as group:
        assert group.commit_all(units) == [True] * 40
    with SweepStore(tmp_path / "single").locked() as single:
        assert [single.commit_all([unit]) for unit in units] == [[True]] * 40
    one, other = SweepStore(tmp_path / "group"), SweepStore(tmp_path / "single")
    assert list(one.committed()) == list(other.committed()) == sorted(u.unit_id for u in units)
    assert one.tables() == other.tables()
    assert one.warnings == ()
    assert not any((tmp_path / "group" / ".tmp").iterdir())


def test_of_several_the_first_is_kept_once(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        assert store.commit_all([]) == []
        assert store.commit_all([done("u1", "a")]) == [True]
        twice = [done("u1", "b"), done("u2", "c"), done("u2", "d")]
        assert store.commit_all(twice) == [False, True, False]
        assert prompts(store) == ["a", "c"]
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 2


def test_a_group_waits_for_its_folder_and_the_manifest_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        waited.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    with SweepStore(tmp_path).locked() as store:
        monkeypatch.setattr(os, "fsync", fsync)
        store.commit_all([done("u1"), done("u2"), done("u3")])
        monkeypatch.undo()
    assert len(waited) == 3 * 4 + 2
    # No name is durable before its content, and nothing counts before both are.
    assert waited[-2:] == ["parts", "manifest.jsonl"]


def test_what_cannot_be_kept_does_not_take_its_group_along(tmp_path: Path) -> None:
    broken = done("u2")
    parts = {**broken.parts, "edits": broken.parts["edits"][:-9]}
    group = [done("u1"), Done("u2", parts, 1, 0.5, "h"), done("u3")]
    with SweepStore(tmp_path).locked() as store:
        with pytest.raises(StoreError, match="unit u2: edits"):
            store.commit_all(group)
        assert set(store.committed()) == {"u1"}
        assert store.commit_all([done("u2"), done("u3")]) == [True, True]


def test_a_disk_that_fills_in_a_group_keeps_what_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = durable.write_file

    def full(path: Path, data: bytes) -> None:
        if path.parent.name.startswith("u2."):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    with SweepStore(tmp_path).locked() as store:
        monkeypatch.setattr(durable, "write_file", full)
        with pytest.raises(StoreError, match=r"unit u2: No space left"):
            store.commit_all([done("u1"), done("u2"), done("u3")])
        monkeypatch.undo()
        assert set(store.committed()) == set(SweepStore(tmp_path).committed()) == {"u1"}
        assert [path.name for path in (tmp_path / "parts").iterdir()] == ["u1"]


def test_slices_hold_all_rows_in_the_order_of_units(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        store.commit_all([done(f"u{i}") for i in (3, 1, 2, 5, 4)])
    slices = list(SweepStore(tmp_path).slices(kinds=("edits",), units=2))
    found = [part["edits"]["unit_id"].to_pylist() for part in slices]
    assert found == [["u1", "u2"], ["u3", "u4"], ["u5"]]


def test_a_locked_store_reads_only_what_is_asked_for(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        store.commit_all([done("u1")])
        (tmp_path / "parts" / "u1" / "answers.arrow").unlink()
        assert store.table("edits").num_rows == 1
        with pytest.raises(StoreError, match=r"u1: .*answers.arrow: No such file"):
            store.table("answers", ["u1"])
    assert SweepStore(tmp_path).committed() == {}
