"""Fixtures that tests of several floors share."""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from editsweep.core import schema
from editsweep.core.ids import content_id
from editsweep.core.types import EditRequest, Probe
from editsweep.store.store import SweepStore
from editsweep.testing import installed

# Memory that nobody wrote then reads as NaN, in every run and not once in a thousand.
torch.use_deterministic_algorithms(True)


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    """A test that left more threads would slow down all that come after it."""
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


CITIES = {
    "Lyon": ("France", "euro"),
    "Kyoto": ("Japan", "yen"),
    "Porto": ("Portugal", "euro"),
    "Mumbai": ("India", "rupee"),
    "Cusco": ("Peru", "sol"),
    "Leeds": ("United Kingdom", "pound"),
    "Kraków": ("Poland", "złoty"),
    "Osaka": ("Japan", "yen"),
    "Mombasa": ("Kenya", "shilling"),
    "Guadalajara": ("Mexico", "peso"),
}
# How often an editor gets each axis right, and seconds an edit.
SKILL = {
    "none": {"reliability": 0.0, "paraphrase": 0.0, "reverse": 0.1, "portability": 0.08, "s": 0.0},
    "ft": {"reliability": 0.97, "paraphrase": 0.55, "reverse": 0.2, "portability": 0.12, "s": 0.21},
    "rome": {"reliability": 0.99, "paraphrase": 0.9, "reverse": 0.15, "portability": 0.2, "s": 0.6},
    "ike": {"reliability": 0.88, "paraphrase": 0.8, "reverse": 0.6, "portability": 0.4, "s": 0.02},
}
KEPT = {"none": 1.0, "ft": 0.62, "rome": 0.93, "ike": 0.78}


def _request(index: int) -> EditRequest:
    city, (country, money) = list(CITIES.items())[index % len(CITIES)]
    new, (land, coin) = list(CITIES.items())[(index * 3 + 1 + index // 10) % len(CITIES)]
    new, coin = (land, coin) if land != country else ("Norway", "krone")
    asked = ["{} is a city in the country of", "{} lies in", "The country of {} is", "Where is {}?"]
    prompt = asked[index // len(CITIES) % len(asked)]
    return EditRequest.of(
        city,
        prompt,
        new,
        country,
        (
            Probe.of("paraphrase", f"People in {city} live in the country of", [new], [country]),
            Probe.of("paraphrase", f"{city}, a well-known place in", [new], [country]),
            Probe.of("reverse", f"A famous city of {new} is", [city], facet="one_to_many"),
            Probe.of("portability", f"The currency used in {city} is the", [coin], [money], "hop"),
            Probe.of("portability", f"The city called {city} is in", [new], facet="alias"),
            Probe.of("locality", f"{city} is known for its", facet="same_subject"),
            Probe.of("locality", "Oslo is a city in the country of", ["Norway"], facet="neighbour"),
        ),
        "country",
    )


class SyntheticSweep:
    """A folder of results as a run would leave it; numbers are drawn with a fixed seed."""

    def __init__(self, folder: Path, edits: int = 40, unit_size: int = 10) -> None:
        self.folder = folder
        self.requests = [_request(i) for i in range(edits)]
        self.units: dict[str, tuple[str, range]] = {}
        self.plan = self._plan(unit_size)

    def _plan(self, unit_size: int) -> dict[str, Any]:
        cells = []
        for editor in SKILL:
            cell = {
                "cell_id": content_id(["cell", editor]),
                "label": editor,
                "model": "smollm2-135m-instruct",
                "model_revision": "0.1.2",
                "editor": editor,
                "params": {"layer": 12, "lr": 0.05} if editor in ("ft", "rome") else {},
                "dataset": "world",
                "split": "test",
                "dataset_digest": content_id("world"),
                "regime": "single",
                "seed": 0,
                "edits": len(self.requests),
            }
            cells.append(cell)
            for start in range(0, len(self.requests), unit_size):
                place = range(start, min(start + unit_size, len(self.requests)))
                unit = content_id([cell["cell_id"], place.start, place.stop])
                self.units[unit] = (editor, place)
        units = [
            {
                "unit_id": unit,
                "cell_id": content_id(["cell", editor]),
                "start": place.start,
                "stop": place.stop,
            }
            for unit, (editor, place) in self.units.items()
        ]
        return {
            "sweep_id": "0" * 31 + "1",
            "name": "demo",
            "cells": cells,
            "units": units,
            "suite": {"axes": ["reliability", "paraphrase", "reverse", "portability", "locality"]},
            "code": "0.1.0",
        }

    def parts(self, unit: str) -> dict[str, bytes]:
        """The three files of one unit."""
        editor, place = self.units[unit]
        rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in schema.PARTS}
        for position in place:
            self._edit(rows, unit, editor, position)
        return {
            kind: schema.to_ipc(schema.table(schema.PARTS[kind], made))
            for kind, made in rows.items()
        }

    def commit(self, units: Iterable[str] | None = None) -> SweepStore:
        """Commit these units, all by default, in the order given."""
        store = SweepStore(self.folder)
        with store.locked() as driver:
            driver.bind({"name": "demo", "editors": list(SKILL)}, "f" * 32)
            driver.write_json("plan.json", self.plan)
            for unit in self.units if units is None else units:
                driver.commit(unit, self.parts(unit), attempt=1, seconds=1.5, host="node-1")
        return store

    def _edit(
        self, rows: dict[str, list[dict[str, Any]]], unit: str, editor: str, position: int
    ) -> None:
        request = self.requests[position]
        draw = random.Random(f"{editor} {position}")
        failed = editor == "rome" and position == 17
        keys = {
            "sweep_id": self.plan["sweep_id"],
            "cell_id": content_id(["cell", editor]),
            "unit_id": unit,
            "edit_id": request.edit_id,
        }
        rows["edits"].append(
            keys
            | {
                "position": position,
                "group": position,
                "subject": request.subject,
                "prompt": request.prompt,
                "target_new": request.target_new,
                "target_true": request.target_true,
                "relation": request.relation,
                "known": position % 3 != 0,
                "status": "failed" if failed else "ok",
                "error_kind": "not_finite" if failed else None,
                "error_text": "the loss is not a number after 7 steps" if failed else None,
                "edit_s": SKILL[editor]["s"] * draw.uniform(0.8, 1.3),
                "probe_s": 0.04 * draw.uniform(0.9, 1.1),
                "steps": 20 if SKILL[editor]["s"] > 0.1 else None,
            }
        )
        for probe in request.all_probes:
            self._probe(rows, keys, editor, request, probe, draw, failed)

    def _probe(
        self,
        rows: dict[str, list[dict[str, Any]]],
        keys: dict[str, str],
        editor: str,
        request: EditRequest,
        probe: Probe,
        draw: random.Random,
        failed: bool,
    ) -> None:
        asked = {"probe_id": probe.probe_id, "axis": probe.axis, "facet": probe.facet}
        kept = probe.axis == "locality"
        right = draw.random() < (KEPT[editor] if kept else SKILL[editor][probe.axis])
        tokens = float(right) if draw.random() < 0.6 else draw.choice([0.5, 0.25, 0.75])
        before = "a long and winding story" if kept else str(request.target_true)
        after = before if right == kept else draw.choice(list(CITIES.values()))[0]
        if right and not kept:
            after = probe.answers[0]
        if editor == "none":
            after = before
        logprobs = [-draw.random() * 5, -0.5]
        post = {"agreement": 1.0 if right else tokens} if kept else {}
        if probe.axis == "reliability":
            post["perplexity"] = math.exp(-sum(logprobs) / 2)
        if probe.answers and not kept:
            post |= {"exact_match": float(right), "token_match": 1.0 if right else tokens}
        if probe.unwanted or probe.axis == "reverse":
            post["preference"] = float(right or draw.random() < 0.3)
        for metric, value in post.items():
            row = keys | asked | {"metric": metric, "protocol": "teacher_forced"}
            if not kept:
                pre = {"phase": "pre", "value": 0.0, "status": "ok"}
                rows["measurements"].append(row | pre)
            late: dict[str, Any] = {"phase": "post", "value": value, "status": "ok"}
            if failed:
                late = {"phase": "post", "value": None, "status": "edit_failed"}
            rows["measurements"].append(row | late)
        rows["answers"].append(
            keys
            | asked
            | {
                "prompt": probe.prompt,
                "role": "reference" if kept else "answer",
                "text": before if kept else probe.answers[0],
                "token_ids": [5, 6],
                "pre_logprobs": [-4.0, -1.0],
                "pre_argmax": [7, 8],
                "pre_said": before,
                "pre_spoke": False,
                "post_logprobs": None if failed else logprobs,
                "post_argmax": None if failed else [5, 6] if right else [7, 8],
                "post_said": None if failed else after,
                "post_spoke": None if failed else False,
            }
        )


@pytest.fixture
def synthetic(tmp_path: Path) -> Callable[..., SyntheticSweep]:
    """Makes a `SyntheticSweep` in a folder of the given name."""

    def make(name: str = "demo", **options: int) -> SyntheticSweep:
        return SyntheticSweep(tmp_path / name, **options)

    return make


@pytest.fixture(scope="session")
def results() -> Callable[[Path], dict[str, Any]]:
    """All that a run left in a folder but what is timed: rows, leaderboard, ends of sequences."""

    def of(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = {k: t.to_pylist() for k, t in SweepStore(folder).tables().items()}
        found["edits"] = [row | {"edit_s": 0, "probe_s": 0} for row in found["edits"]]
        found["leaderboard"] = (folder / "leaderboard.csv").read_bytes()
        ends = (folder / "chains").rglob("*.*")
        return found | {"chains": {path.name: path.read_bytes() for path in ends}}

    return of


@pytest.fixture(scope="session")
def quick() -> Callable[[Any], Any]:
    """Makes an editor's spec one that takes few steps where it trains, on few records."""

    def of(spec: Any) -> Any:
        if getattr(spec, "steps", 0) > 10:
            spec = replace(spec, steps=6)
        if not hasattr(spec, "training"):
            return spec
        few = {"steps": 2, "every": 2, "validate": 4, "observe": 8, "share": 0.2, "warmup": 1}
        return replace(spec, training=replace(spec.training, **few))

    return of


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """The path of a published file, which lies in `shared/data` beside the checkout."""
    root = Path(__file__).resolve().parents[1]

    def find(name: str) -> Path:
        for above in (root, root.parent):
            if (path := above / "shared" / "data" / name).is_file():
                return path
        pytest.skip(f"no {name} in shared/data beside the checkout")

    return find


FAULTY = '''
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from editsweep.core import schema
from editsweep.editors.ft import FtSpec
from editsweep.run import evaluate


@dataclass(frozen=True)
class FaultySpec:
    """`ft`, which does what the files in `orders` say: `<subject>.<what>`, once or `always`."""

    name: ClassVar[str] = "faulty"
    regimes: ClassVar[frozenset[str]] = FtSpec.regimes
    orders: str = "."

    def requirements(self):
        return {}

    def build(self, model, assets):
        editor = Faulty(Path(self.orders), model, FtSpec(steps=1).build(model, assets))
        editor.obey("build", 1)
        return editor


@dataclass
class Faulty:
    orders: Path
    model: object
    inner: object

    def edit(self, groups, seed):
        for group in groups:
            for request in group:
                self.obey(request.subject, len(groups))
        return self.inner.edit(groups, seed)

    def obey(self, subject, groups):
        for path in sorted(self.orders.glob(f"{subject}.*")):
            if path.read_text() != "always":
                path.unlink()
            getattr(self, path.suffix[1:])(groups)

    def die(self, *_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def ask(self, groups):
        evaluate.ask = self.die

    def reply(self, groups):
        schema.to_ipc_files = self.die

    def write(self, groups):
        with torch.no_grad():
            self.model.weight(self.model.mlp_out(1))[0, 0] += 1

    def error(self, groups):
        raise RuntimeError("boom")

    def broken(self, *_):
        """As CUDA does after a failed kernel: from now on this process fails at every edit."""
        Faulty.edit = Faulty.broken
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    def memory(self, groups):
        if groups > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
'''


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Path]:
    """An editor `faulty` of another package, here and in new processes; the folder of its orders."""
    orders = tmp_path / "orders"
    orders.mkdir()
    with installed(tmp_path / "faulty", FAULTY, {"faulty": "faulty_editor:FaultySpec"}):
        yield orders
