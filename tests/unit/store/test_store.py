"""A unit is kept whole or not at all, and once, whatever dies when."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from editsweep.core import schema
from editsweep.errors import ConfigError, StoreError
from editsweep.store.store import SweepStore

# How often a commit waits for the disk: three files, their folder, its new place, the manifest.
STEPS = 6


def unit_parts(unit: str, edits: int = 2, value: float = 1.0) -> dict[str, bytes]:
    keys = {"sweep_id": "s", "cell_id": "c", "unit_id": unit}
    rows: dict[str, list[dict[str, Any]]] = {"edits": [], "measurements": [], "answers": []}
    for i in range(edits):
        own = keys | {"edit_id": f"{unit}-{i}"}
        fact = {"prompt": "{} is", "target_new": "x", "relation": "", "status": "ok"}
        rows["edits"].append(own | fact | {"position": i, "group": i})
        probe = own | {"probe_id": "p", "axis": "reliability", "facet": ""}
        for phase in ("pre", "post"):
            number = {"metric": "exact_match", "protocol": "t", "phase": phase, "value": value}
            rows["measurements"].append(probe | number | {"status": "ok"})
    return {
        kind: schema.to_ipc(schema.table(schema.PARTS[kind], made)) for kind, made in rows.items()
    }


def commit(store: SweepStore, unit: str, **options: Any) -> bool:
    parts = unit_parts(unit, **options)
    return store.commit(unit, parts, attempt=1, seconds=0.5, host="h")


def test_a_unit_is_kept_once_and_read_back(tmp_path: Path) -> None:
    store = SweepStore(tmp_path / "sweep")
    with store.locked() as driver:
        assert commit(driver, "u1")
        before = {p: p.read_bytes() for p in store.folder.rglob("*.arrow")}
        assert not commit(driver, "u1", value=0.0)
        assert {p: p.read_bytes() for p in store.folder.rglob("*.arrow")} == before
    line = store.committed()["u1"]
    assert (line.attempt, line.seconds, line.host) == (1, 0.5, "h")
    assert line.files["measurements"].rows == 4
    assert store.table("edits").equals(schema.from_ipc(unit_parts("u1")["edits"]))
    assert store.table("edits").schema.equals(schema.EDITS, check_metadata=True)
    assert not any((store.folder / ".tmp").iterdir())


def test_the_order_of_commits_does_not_show(tmp_path: Path) -> None:
    tables = []
    for name, units in (("a", ["u1", "u2", "u3"]), ("b", ["u3", "u1", "u2"])):
        with SweepStore(tmp_path / name).locked() as store:
            for unit in units:
                commit(store, unit)
            tables.append([store.table(kind) for kind in schema.PARTS])
    assert tables[0] == tables[1]
    assert tables[0][0]["edit_id"].to_pylist() == [f"u{u}-{i}" for i in (0, 1) for u in (1, 2, 3)]


def test_columns_of_long_tables_come_coded_in_the_order_of_units(tmp_path: Path) -> None:
    wanted = ("cell_id", "edit_id", "value")
    with SweepStore(tmp_path).locked() as store:
        empty = store.tables(kinds=("measurements",), narrow={"measurements": wanted})
        for unit in ("u3", "u1", "u2"):
            commit(store, unit)
        made = store.tables(kinds=("edits", "measurements"), narrow={"measurements": wanted})
        plain = store.table("measurements")
        (store.folder / "parts" / "u2" / "measurements.arrow").write_bytes(b"torn")
    assert made["edits"].num_rows == 6
    coded = made["measurements"]
    assert coded.schema.names == list(wanted) == empty["measurements"].schema.names
    assert empty["measurements"].schema == coded.schema
    assert pa.types.is_dictionary(coded.schema.field("edit_id").type)
    units = [edit.split("-")[0] for edit in coded["edit_id"].to_pylist()]
    assert units == sorted(units)
    texts = coded.cast(plain.select(wanted).schema)
    assert sorted(texts.to_pylist(), key=str) == sorted(plain.select(wanted).to_pylist(), key=str)
    left = SweepStore(tmp_path).tables(kinds=("measurements",), narrow={"measurements": wanted})
    assert {edit.split("-")[0] for edit in left["measurements"]["edit_id"].to_pylist()} == {
        "u1",
        "u3",
    }


def test_only_named_units_and_no_others(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        commit(store, "u1")
        commit(store, "u2")
        assert set(store.table("edits", ["u2"])["unit_id"].to_pylist()) == {"u2"}
        assert store.table("edits", []).num_rows == 0
        with pytest.raises(StoreError, match="no committed unit u9"):
            store.table("edits", ["u9"])


def test_an_empty_folder_has_empty_tables(tmp_path: Path) -> None:
    store = SweepStore(tmp_path / "nothing")
    assert store.committed() == {}
    assert {kind: t.num_rows for kind, t in store.tables().items()} == dict.fromkeys(
        schema.PARTS, 0
    )
    assert not store.folder.exists()


def test_the_second_driver_is_told_who_is_the_first(tmp_path: Path) -> None:
    with (
        SweepStore(tmp_path).locked(),
        pytest.raises(StoreError, match=rf"process {os.getpid()} on "),
        SweepStore(tmp_path).locked(),
    ):
        pass
    with SweepStore(tmp_path).locked():
        pass


def test_writing_needs_the_lock(tmp_path: Path) -> None:
    store = SweepStore(tmp_path)
    with pytest.raises(StoreError, match="locked"):
        commit(store, "u1")
    with store.locked():
        pass
    with pytest.raises(StoreError, match="locked"):
        store.event(kind="start")


def test_a_folder_belongs_to_one_sweep(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        store.bind({"editors": ["rome"], "seeds": [0]}, "f1")
        kept = (tmp_path / "sweep.lock.yaml").read_bytes()
        store.bind({"editors": ["rome"], "seeds": [0]}, "f1")
        with pytest.raises(StoreError, match="--out") as error:
            store.bind({"editors": ["rome"], "seeds": [1]}, "f2")
    assert "-  - 0" in str(error.value)
    assert "+  - 1" in str(error.value)
    assert (tmp_path / "sweep.lock.yaml").read_bytes() == kept
    assert yaml.safe_load(kept) == {
        "fingerprint": "f1",
        "sweep": {"editors": ["rome"], "seeds": [0]},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts.pop("answers"), "has parts"),
        (lambda parts: parts.update(edits=parts["edits"][:-9]), "edits"),
        (lambda parts: parts.update(edits=parts["answers"]), "columns do not match"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    parts = unit_parts("u1")
    change(parts)
    with SweepStore(tmp_path).locked() as store:
        with pytest.raises(StoreError, match=message):
            store.commit("u1", parts, attempt=1, seconds=0.0, host="h")
        assert not any((tmp_path / "parts").iterdir())
        with pytest.raises(ConfigError):
            store.commit("../u1", unit_parts("u1"), attempt=1, seconds=0.0, host="h")


def test_null_where_none_may_be_is_refused(tmp_path: Path) -> None:
    parts = unit_parts("u1")
    table = schema.from_ipc(parts["edits"])
    loose = pa.schema([field.with_nullable(True) for field in table.schema])
    rows = [row | {"status": None} for row in table.to_pylist()]
    parts["edits"] = schema.to_ipc(pa.Table.from_pylist(rows, schema=loose))
    with (
        SweepStore(tmp_path).locked() as store,
        pytest.raises(StoreError, match="status"),
    ):
        store.commit("u1", parts, attempt=1, seconds=0.0, host="h")


def test_a_damaged_part_is_not_a_result_and_can_be_redone(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        commit(store, "u1")
        commit(store, "u2")
    path = tmp_path / "parts" / "u1" / "measurements.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    store = SweepStore(tmp_path)
    assert set(store.committed()) == {"u2"}
    assert re.search(
        r"manifest.jsonl:1: unit u1: measurements.arrow .*done again", store.warnings[0]
    )
    with store.locked():
        assert commit(store, "u1", value=0.0)
    assert set(store.committed()) == {"u1", "u2"}
    assert store.warnings == ()


def test_wrong_counts_and_a_missing_file_are_seen(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        commit(store, "u1")
        commit(store, "u2")
        commit(store, "u3")
    manifest = tmp_path / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[0]["files"]["edits"]["bytes"] += 1
    lines[2]["schema_version"] = 0
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "parts" / "u2" / "answers.arrow").unlink()
    store = SweepStore(tmp_path)
    assert store.committed() == {}
    assert ["other content" in w for w in store.warnings] == [True, False, False]
    assert "No such file" in store.warnings[1]
    assert "schema version 0" in store.warnings[2]


def test_the_first_of_two_lines_holds_and_noise_is_passed_over(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        commit(store, "u1")
    manifest = tmp_path / "manifest.jsonl"
    line = json.loads(manifest.read_text())
    second = json.dumps(line | {"attempt": 7})
    manifest.write_text(f"{json.dumps(line)}\n{second}\nnoise\n\xff\n" + '{"unit_id": "../x"}\n')
    store = SweepStore(tmp_path)
    assert store.committed()["u1"].attempt == 1
    assert len(store.warnings) == 3


def test_a_torn_line_is_cut_before_the_next(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        commit(store, "u1")
        store.event(kind="start")
    for name in ("manifest.jsonl", "progress.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"unit_id": "u2", "fil')
    assert set(SweepStore(tmp_path).committed()) == {"u1"}
    with SweepStore(tmp_path).locked() as store:
        commit(store, "u2")
        store.event(kind="end", units=2)
        assert store.warnings == ()
    assert set(SweepStore(tmp_path).committed()) == {"u1", "u2"}
    events = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events] == ["start", "end"]
    assert all(event["time"].endswith("+00:00") for event in events)


def test_a_full_disk_keeps_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fail_at:
            raise OSError(28, "No space left on device")
        real(handle)

    for fail_at in range(1, 10):
        with SweepStore(tmp_path / str(fail_at)).locked() as store:
            commit(store, "u0")
            before = (store.folder / "manifest.jsonl").read_bytes()
            calls = 0
            monkeypatch.setattr(os, "fsync", full)
            failed = ""
            try:
                commit(store, "u1")
            except StoreError as error:
                failed = str(error)
            monkeypatch.undo()
            assert bool(failed) == (fail_at <= STEPS)
            if failed:
                assert "No space left" in failed
                assert set(store.committed()) == {"u0"}
                assert (store.folder / "manifest.jsonl").read_bytes() == before
                assert [p.name for p in (store.folder / "parts").iterdir()] == ["u0"]
                assert commit(store, "u1")
            assert set(store.committed()) == {"u0", "u1"}


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="cannot open the folder"),
        SweepStore(tmp_path / "file" / "s").locked(),
    ):
        pass


def test_write_json_is_whole_and_stays_inside(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        store.write_json("plan.json", {"name": "städte"})
        store.write_json("plan.json", {"name": "cities"})
        with pytest.raises(ConfigError):
            store.write_json("../plan.json", {})
    assert json.loads((tmp_path / "plan.json").read_text()) == {"name": "cities"}


KILLED = """
import os, signal, sys
from pathlib import Path
from editsweep.store.store import SweepStore
folder, parts, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
unit = {kind: (parts / kind).read_bytes() for kind in ("edits", "measurements", "answers")}
calls = 0
def dying(real):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
with SweepStore(folder).locked() as store:
    os.fsync, os.rename, os.open = dying(os.fsync), dying(os.rename), dying(os.open)
    store.commit("u1", unit, attempt=1, seconds=0.5, host="h")
"""


def test_a_driver_killed_at_any_step_leaves_all_or_nothing(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    wanted = unit_parts("u1")
    for kind, data in wanted.items():
        (parts / kind).write_bytes(data)
    seen = set()
    for at in (1, 3, 5, 6, 7, 9, 10, 11, 99):
        folder = tmp_path / f"sweep{at}"
        command = [sys.executable, "-c", KILLED, str(folder), str(parts), str(at)]
        end = subprocess.run(command, env=os.environ, check=False).returncode
        assert end in (0, -signal.SIGKILL)
        there = set(SweepStore(folder).committed())
        seen.add((end == 0, bool(there)))
        with SweepStore(folder).locked() as store:
            assert commit(store, "u1") == (not there)
            assert store.table("edits").equals(schema.from_ipc(wanted["edits"]))
            assert not (folder / ".tmp").exists() or not any((folder / ".tmp").iterdir())
        assert len((folder / "manifest.jsonl").read_text().splitlines()) == 1
    assert {(True, True), (False, False)} <= seen


def test_a_unit_that_was_taken_back_can_be_kept_again(tmp_path):
    with SweepStore(tmp_path).locked() as store:
        commit(store, "u1")
        commit(store, "u2")
        store.withdraw("u1")
        assert set(store.committed()) == {"u2"}
        with pytest.raises(StoreError, match="no committed unit u1"):
            store.withdraw("u1")
    with SweepStore(tmp_path).locked() as store:
        assert commit(store, "u1")
        assert set(store.committed()) == {"u1", "u2"}
        assert store.warnings == ()
