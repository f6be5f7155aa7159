"""How fast things were: measured by a sweep's progress log, remembered in the cache for other sweeps.

<cache>/rates.jsonl      one line a rate, the latest measurement of its kind; at most `MOST` lines
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from editsweep.core.ids import content_id
from editsweep.core.types import EditRequest
from editsweep.run.plan import AssetNeed, BaseSlice, Cell, Plan
from editsweep.run.resolve import ModelUse
from editsweep.run.status import events
from editsweep.store import durable
from editsweep.store.lock import in_turn

FILE, LOCK = "rates.jsonl", "rates.lock"
MOST = 1000


class Work(NamedTuple):
    """What was done: all that a rate depends on but the device; "" where it does not matter.

    `edit` is making edits and asking them, `base` asking the unedited model, `asset` making what an
    editor needs (`editor` is its kind then, `settings` its key), `load` loading a model. `settings`
    and `asked` are ids of hyperparameters and of what is asked.
    """

    kind: Literal["edit", "base", "asset", "load"]
    model: str
    editor: str = ""
    settings: str = ""
    dataset: str = ""
    regime: str = ""
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """Seconds of one worker on `device`: `edit_s` an edit that is made, `ask_s` one that is asked.

    An asset and a model count as one edit that is made. `probes` are questions an edit, and `count`
    is over how many edits it was measured; `at` is when, UTC in ISO 8601.
    """

    work: Work
    device: str
    probes: float
    count: int
    edit_s: float
    ask_s: float
    at: str

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Self:
        """The rate that was written as these fields.

        Raises:
            TypeError, ValueError, KeyError: it is no such line.
        """
        probes, edit_s, ask_s = (float(line[name]) for name in ("probes", "edit_s", "ask_s"))
        if not all(0 <= number < inf for number in (probes, edit_s, ask_s)):
            raise ValueError("a rate is a number from 0 up")
        device, count, at = str(line["device"]), int(line["count"]), str(line["at"])
        return cls(Work(**line["work"]), device, probes, count, edit_s, ask_s, at)

    def text(self) -> str:
        """The rate as one line of JSON."""
        return json.dumps({**asdict(self), "work": self.work._asdict()}, sort_keys=True)


def edit_work(plan: Plan, cell: Cell) -> Work:
    """What the units of a cell are."""
    data = cell.records.data
    return Work(
        "edit",
        _model(cell.model),
        cell.editor.name,
        content_id(cell.editor.described),
        f"{data.name}:{data.split}",
        str(cell.regime),
        _asked(plan),
    )


def base_work(plan: Plan, part: BaseSlice) -> Work:
    """What it is to put a slice to the unedited model."""
    return Work("base", _model(part.model), asked=_asked(plan))


def asset_work(need: AssetNeed) -> Work:
    """What it is to make an asset."""
    kind = type(need.recipe.requirement).__name__
    return Work("asset", _model(need.model), kind, need.recipe.key)


def load_work(model: ModelUse) -> Work:
    """What it is to load a model."""
    return Work("load", _model(model))


def probes_of(requests: Sequence[EditRequest]) -> float:
    """Questions an edit."""
    return sum(len(request.all_probes) for request in requests) / max(1, len(requests))


def probes_by_cell(plan: Plan) -> dict[str, float]:
    """Questions an edit, of every cell; each dataset is counted once."""
    data = {id(cell.records): cell.records.data.requests for cell in plan.cells.values()}
    counts = {key: probes_of(requests) for key, requests in data.items()}
    return {cell_id: counts[id(cell.records)] for cell_id, cell in plan.cells.items()}


@dataclass(slots=True)
class _Sum:
    probes: float = 0.0
    made: int = 0
    asked: int = 0
    edit_s: float = 0.0
    ask_s: float = 0.0
    at: str = ""


def measured(plan: Plan, folder: Path) -> list[Rate]:
    """The rates of all that the progress log of the sweep's `folder` has of this plan.

    What was done twice counts as it was done last. Units that came to nothing are left out.
    """
    sums: dict[tuple[Work, str], _Sum] = {}
    for piece in _done(plan, events(folder)):
        total = sums.setdefault((piece.work, piece.device), _Sum())
        total.probes += piece.probes * piece.made
        total.made += piece.made
        total.asked += piece.asked
        total.edit_s += piece.edit_s
        total.ask_s += piece.ask_s
        total.at = max(total.at, piece.at)
    return [
        Rate(
            work,
            device,
            total.probes / total.made,
            total.made,
            total.edit_s / total.made,
            total.ask_s / max(1, total.asked),
            total.at,
        )
        for (work, device), total in sums.items()
    ]


def known(cache: Path) -> list[Rate]:
    """The rates that are remembered; a line that is none is passed over."""
    try:
        lines = (cache / FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in lines:
        try:
            found.append(Rate.of(json.loads(line)))
        except (TypeError, ValueError, KeyError):
            continue
    return found


def remember(cache: Path, rates: Iterable[Rate]) -> None:
    """Have `rates` replace older ones of the same work and device; the oldest are forgotten.

    Rates of a device that nobody knows are of no use to others and not remembered.

    Raises:
        OSError: the cache cannot be written.
    """
    fresh = [rate for rate in rates if rate.device]
    if not fresh:
        return
    cache.mkdir(parents=True, exist_ok=True)
    with in_turn(cache / LOCK, lambda _: None):
        latest = {(r.work, r.device): r for r in sorted([*known(cache), *fresh], key=_when)}
        kept = sorted(latest.values(), key=_when)[-MOST:]
        durable.replace_file(cache / FILE, "".join(f"{r.text()}\n" for r in kept).encode())


def _when(rate: Rate) -> str:
    return rate.at


class _Piece(NamedTuple):
    work: Work
    device: str
    probes: float
    made: int
    asked: int
    edit_s: float
    ask_s: float
    at: str


def _done(plan: Plan, log: Iterable[Mapping[str, Any]]) -> Iterator[_Piece]:
    """Of each unit, slice and asset what the log says last; of models every load."""
    probes, works = probes_by_cell(plan), {c: edit_work(plan, x) for c, x in plan.cells.items()}
    models = {use.entry.name: use for use in (part.model for part in plan.bases.values())}
    units = {unit.unit_id: unit for unit in plan.units}
    last: dict[str, Mapping[str, Any]] = {}
    for event in log:
        name, use = event["event"], models.get(event.get("model", ""))
        if name == "loaded" and use and event.get("device"):
            load = load_work(use)
            yield _Piece(load, event["device"], 0, 1, 0, event["seconds"], 0, event["time"])
        elif name in ("committed", "prepared") and "seconds" in event:
            last[event.get("unit") or event.get("task", "")] = event
    for key, event in last.items():
        device, at = str(event.get("device", "")), event["time"]
        seconds = float(event.get("work_s", event["seconds"]))
        if key in units and seconds:
            unit = units[key]
            made, edit_s = unit.stop - unit.start, min(seconds, float(event.get("edit_s", 0.0)))
            spent = made, made + len(unit.again), edit_s, seconds - edit_s
            yield _Piece(works[unit.cell_id], device, probes[unit.cell_id], *spent, at)
        elif part := plan.bases.get(key):
            count, each = len(part.requests), probes_of(part.requests)
            yield _Piece(base_work(plan, part), device, each, count, count, 0, seconds, at)
        elif need := plan.assets.get(key):
            yield _Piece(asset_work(need), device, 0, 1, 0, seconds, 0, at)


def _model(use: ModelUse) -> str:
    return f"{use.entry.name} {use.entry.dtype}"


def _asked(plan: Plan) -> str:
    return content_id(plan.resolved["metrics"])
