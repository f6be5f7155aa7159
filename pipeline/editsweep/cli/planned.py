"""A plan on the terminal: its cells, what is there already, and how long the rest will take."""

from collections import Counter
from typing import TYPE_CHECKING

from editsweep.cli.show import as_table, console
from editsweep.run.progress import clock

if TYPE_CHECKING:
    from editsweep.run.estimate import CellTime, Estimate
    from editsweep.run.forecast import Cached
    from editsweep.run.plan import Plan


def show_plan(plan: "Plan", cached: "Cached", estimate: "Estimate") -> None:
    """Print the table of cells, the numbers of the whole, and the time and GPU hours."""
    units = Counter(unit.cell_id for unit in plan.units)
    as_table(
        (
            *("cell", "model", "dataset", "regime", "seed", "edits", "units", "done"),
            *("s/edit", "time", "rate from"),
        ),
        [
            (
                cell.label,
                cell.model.entry.name,
                f"{cell.records.data.name}:{cell.records.data.split}",
                str(cell.regime),
                cell.seed,
                len(cell.records.data.requests),
                units[cell_id],
                cached.edits[cell_id],
                *_time(estimate.cells[cell_id]),
            )
            for cell_id, cell in plan.cells.items()
        ],
        title=f"{plan.name} ({plan.sweep_id[:12]})",
    )
    edits = sum(unit.stop - unit.start for unit in plan.units)
    console.print(
        f"{len(plan.cells)} cells, {len(plan.units)} units, {edits} edits; first "
        f"{len(plan.assets)} assets and the unedited model's answers in {len(plan.bases)} slices"
    )
    console.print(
        f"There already: {len(cached.units)} units, {len(cached.assets)} assets, "
        f"{len(cached.bases)} slices"
    )
    for line in time_lines(estimate):
        console.print(line, markup=False, soft_wrap=True)


def time_lines(estimate: "Estimate") -> list[str]:
    """Time and GPU hours in words: `at least` where something was never measured, and what that is."""
    if not any(time.edits for time in estimate.cells.values()):
        return ["Time: nothing is left to do"]
    workers = f"{estimate.workers} {'worker' if estimate.workers == 1 else 'workers'}"
    hours = "" if estimate.gpu_hours is None else f", {estimate.gpu_hours:.2f} GPU hours"
    devices = sorted(
        {time.device for time in estimate.cells.values() if time.edits and time.device}
    )
    measured = f" (measured on {'; '.join(devices)})" if devices else ""
    if not estimate.unknown:
        return [f"Time: about {clock(estimate.wall_s)} on {workers}{hours}{measured}"]
    known = f"at least {clock(estimate.wall_s)} on {workers}{hours}{measured}"
    shown = ", ".join(estimate.unknown[:6])
    more = f" and {len(estimate.unknown) - 6} more" if len(estimate.unknown) > 6 else ""
    return [
        f"Time: {known if estimate.wall_s else 'unknown'}",
        f"Nothing like it was measured yet: {shown}{more}. A small run measures it: "
        "`editsweep run SWEEP --limit 8 --out trial`",
    ]


def _time(cell: "CellTime") -> tuple[str, str, str]:
    each = "–" if cell.edit_s is None else f"{cell.edit_s:.3g}"
    return each, "–" if cell.seconds is None else clock(cell.seconds), cell.source
