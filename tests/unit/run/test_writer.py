"""Writes are done in order, units in groups, and nothing after a fault."""

import json
import threading
from pathlib import Path

import pytest

from editsweep.core import schema
from editsweep.errors import StoreError
from editsweep.run.writer import BACKLOG, Writer
from editsweep.store.store import Done, SweepStore


def done(unit: str) -> Done:
    keys = {"sweep_id": "s", "cell_id": "c", "unit_id": unit, "edit_id": f"{unit}e"}
    fact = {"prompt": "p", "target_new": "x", "relation": "", "status": "ok"}
    row = keys | fact | {"position": 0, "group": 0}
    parts = {
        kind: schema.to_ipc(schema.table(wanted, [row] * (kind == "edits")))
        for kind, wanted in schema.PARTS.items()
    }
    return Done(unit, parts, 1, 0.0, "h")


def held(writer: Writer) -> threading.Event:
    """The writer's thread does nothing more until the event is set."""
    begun, go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go.wait(60)

    writer.put(wait)
    assert begun.wait(60)
    return go


def test_what_waits_is_kept_together_and_functions_keep_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[list[str]] = []
    real = SweepStore.commit_all

    def commit_all(self: SweepStore, units: list[Done]) -> list[bool]:
        groups.append([unit.unit_id for unit in units])
        return real(self, units)

    monkeypatch.setattr(SweepStore, "commit_all", commit_all)
    seen: list[set[str]] = []
    with SweepStore(tmp_path).locked() as store:
        with Writer(store) as writer:
            go = held(writer)
            for unit in ("u1", "u2"):
                writer.put(done(unit))
                writer.put({"event": "committed", "unit": unit})
            writer.put(lambda: seen.append(set(store.committed())))
            writer.put(done("u3"))
            go.set()
        assert set(store.committed()) == {"u1", "u2", "u3"}
    assert groups == [["u1", "u2"], ["u3"]]
    assert seen == [{"u1", "u2"}]
    events = map(json.loads, (tmp_path / "progress.jsonl").read_text().splitlines())
    assert [event["unit"] for event in events] == ["u1", "u2"]


def test_after_a_fault_nothing_is_written_and_it_is_raised(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store:
        writer = Writer(store)
        writer.__enter__()
        go = held(writer)
        for write in (Done("u1", {}, 1, 0.0, "h"), lambda: None, done("u2")):
            writer.put(write)
        go.set()
        with pytest.raises(StoreError, match="unit u1"):
            writer.__exit__(None, None, None)
        with pytest.raises(StoreError, match="unit u1"):
            writer.put(done("u3"))
        assert store.committed() == {}


def test_who_gives_out_faster_than_the_disk_keeps_is_made_to_wait(tmp_path: Path) -> None:
    with SweepStore(tmp_path).locked() as store, Writer(store) as writer:
        go = held(writer)
        for number in range(BACKLOG):
            writer.put({"event": number})
        waiting = threading.Thread(target=writer.put, args=({"event": "last"},))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        go.set()
        waiting.join(60)
        assert not waiting.is_alive()


def test_an_error_of_the_run_is_not_hidden_by_one_of_a_write(tmp_path: Path) -> None:
    def run(store: SweepStore) -> None:
        with Writer(store) as writer:
            writer.put(Done("u1", {}, 1, 0.0, "h"))
            raise KeyError("run")

    with SweepStore(tmp_path).locked() as store, pytest.raises(KeyError, match="run"):
        run(store)
