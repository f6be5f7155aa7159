"""Random histories of commits, crashes and damage: each unit at most once, and as it was given."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from editsweep.core import schema
from editsweep.store import durable
from editsweep.store.store import SweepStore

UNITS = ("u1", "u2", "u3")
STEPS = ("write_file", "sync_folder", "write_folder", "move_folders", "append_line")


class Crash(BaseException):
    """The driver dies here: no handler of the code under test may catch it."""


def made(unit: str, version: int) -> dict[str, bytes]:
    row = {
        "sweep_id": "s",
        "cell_id": "c",
        "unit_id": unit,
        "edit_id": f"{unit}e",
        "position": 0,
        "group": 0,
        "prompt": f"v{version}",
        "target_new": "x",
        "relation": "",
        "status": "ok",
    }
    rows: dict[str, list[dict[str, Any]]] = {"edits": [row], "measurements": [], "answers": []}
    return {kind: schema.to_ipc(schema.table(schema.PARTS[kind], r)) for kind, r in rows.items()}


class Folder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "sweep"
        self.version = 0
        self.kept: dict[str, int] = {}
        self.open()

    def open(self) -> None:
        self.store = SweepStore(self.folder)
        self.lock = self.store.locked()
        self.lock.__enter__()

    def shut(self) -> None:
        self.lock.__exit__(None, None, None)

    def teardown(self) -> None:
        self.shut()
        self.temporary.cleanup()

    def commit(self, unit: str) -> bool:
        self.version += 1
        parts = made(unit, self.version)
        return self.store.commit(unit, parts, attempt=self.version, seconds=0.0, host="h")

    @rule(unit=st.sampled_from(UNITS))
    def commits(self, unit: str) -> None:
        assert self.commit(unit) == (unit not in self.kept)
        self.kept.setdefault(unit, self.version)

    @rule(
        unit=st.sampled_from(UNITS),
        step=st.sampled_from(STEPS),
        nth=st.integers(1, 3),
        before=st.booleans(),
    )
    def crashes(self, unit: str, step: str, nth: int, before: bool) -> None:
        real = getattr(durable, step)
        calls = 0

        def dying(*args: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == nth and before:
                raise Crash
            real(*args)
            if calls == nth:
                raise Crash

        done = True
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(durable, step, dying)
            try:
                self.commit(unit)
            except Crash:
                done = step == "append_line" and not before
        self.shut()
        if done:
            self.kept.setdefault(unit, self.version)
        self.open()

    @rule(noise=st.binary(max_size=30).filter(lambda b: b"\n" not in b))
    def tears(self, noise: bytes) -> None:
        self.shut()
        with (self.folder / "manifest.jsonl").open("ab") as file:
            file.write(noise)
        self.open()

    @precondition(lambda self: self.kept)
    @rule(cut=st.integers(1, 200))
    def loses_the_end(self, cut: int) -> None:
        self.shut()
        path = self.folder / "manifest.jsonl"
        data = path.read_bytes()
        last = json.loads(data.splitlines()[-1])
        path.write_bytes(data[: -min(cut, len(data.splitlines()[-1]))])
        if self.kept.get(last["unit_id"]) == last["attempt"]:
            del self.kept[last["unit_id"]]
        self.open()

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def flips_a_byte(self, data: st.DataObject) -> None:
        unit = data.draw(st.sampled_from(sorted(self.kept)))
        kind = data.draw(st.sampled_from(sorted(schema.PARTS)))
        self.shut()
        path = self.folder / "parts" / unit / f"{kind}.arrow"
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 0x10
        path.write_bytes(content)
        del self.kept[unit]
        self.open()

    @rule()
    def reopens(self) -> None:
        self.shut()
        self.open()

    @invariant()
    def every_unit_is_as_it_was_given(self) -> None:
        reader = SweepStore(self.folder)
        assert set(reader.committed()) == set(self.kept)
        rows = reader.table("edits").to_pylist()
        assert {row["unit_id"]: row["prompt"] for row in rows} == {
            unit: f"v{version}" for unit, version in self.kept.items()
        }
        assert len(rows) == len(self.kept)


Folder.TestCase.settings = settings(
    max_examples=40, stateful_step_count=12, deadline=None, database=None
)
TestFolder = Folder.TestCase
