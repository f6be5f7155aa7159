"""From a folder of results to its report and its record in MLflow; neither torch nor ray."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from editsweep.errors import ConfigError
from editsweep.report.compare import Side, compare
from editsweep.report.conditions import CONDITIONS
from editsweep.report.results import MEASURED, Results
from editsweep.report.write import read_plan, write_report
from editsweep.store import durable, tracking, tracking_one
from editsweep.store.store import SweepStore
from editsweep.store.tracking_client import RecordResult
from editsweep.store.tracking_one import OneRun


def results_of(folder: Path) -> Results:
    """What is committed in a sweep's folder.

    Raises:
        StoreError: it is not the folder of a sweep, or a part cannot be read.
    """
    plan, store = read_plan(folder), SweepStore(folder)
    tables = store.tables(kinds=("edits", "measurements"), narrow={"measurements": MEASURED})

    def answers(units: Sequence[str]) -> pl.DataFrame:
        return pl.DataFrame(store.table("answers", units))

    return Results.of(plan, tables, answers)


def board(results: Results, folder: Path, known: bool | None = None) -> pl.DataFrame:
    """The leaderboard of what is committed in a sweep's folder.

    `known` asks only for edits whose old fact the unedited model knew, or did not.

    Raises:
        ConfigError: `known` is given, and no edit has an old target.
    """
    (name,) = (name for name, wanted in CONDITIONS.items() if wanted is known)
    if name not in results.boards:
        raise ConfigError(
            f"{folder}: no edit has an old target (`target_true`), so there is nothing that the "
            "model knew or did not know: leave --known out"
        )
    return results.boards[name].board


def compared(
    a: str, b: str, difference: float, headline: bool = True, known: bool | None = None
) -> pl.DataFrame:
    """Two cells, each `FOLDER:LABEL`; a bare label is of the first one's folder.

    Raises:
        ConfigError: a cell is not named so or is not there, or the two share no edit.
        StoreError: a folder is not a sweep's, or a part cannot be read.
    """
    folder, label = _cell(a)
    if folder is None:
        raise ConfigError(f"{a!r}: write FOLDER:LABEL, e.g. runs/demo:rome")
    other, second = _cell(b)
    sides = _side(folder, label), _side(other or folder, second)
    return compare(*sides, difference, headline, known)


def _cell(text: str) -> tuple[Path | None, str]:
    """Folder and label; a label may have colons of its own, as `memit · batch:8`."""
    folder, colon, label = text.partition(":")
    return (Path(folder), label) if colon and Path(folder).is_dir() else (None, text)


def _side(folder: Path, label: str) -> Side:
    results = results_of(folder)
    return Side(label, results.plan, results.edits, results.measurements)


def report(folder: Path, results: Results | None = None) -> tuple[Path, Path]:
    """Write the report of what is committed; the paths of `leaderboard.csv` and `report.html`.

    Raises:
        StoreError: it is not the folder of a sweep, a part cannot be read, or the report cannot be
            written.
    """
    results = results or results_of(folder)
    with durable.explained(folder, "write the report"):
        return write_report(folder, results)


def record(
    folder: Path,
    tracking_uri: str | None = None,
    experiment: str = "editsweep",
    results: Results | None = None,
) -> RecordResult:
    """Bring the sweep's runs in MLflow up to date; the result says why if that cannot be.

    Raises:
        StoreError: it is not the folder of a sweep, or a part cannot be read.
    """
    if find_spec("mlflow") is None:
        return _no_mlflow(tracking_uri or tracking.default_uri(folder))
    results = results or results_of(folder)
    rows, along = results.boards[""].board.to_dicts(), results.along.to_dicts()
    return tracking.record(folder, tracking_uri, experiment, rows, along)


def record_one(made: OneRun, tracking_uri: str, experiment: str) -> RecordResult:
    """Bring the run of a training or a tracing up to date; the result says why if that cannot be."""
    if find_spec("mlflow") is None:
        return _no_mlflow(tracking_uri)
    return tracking_one.record_one(made, tracking_uri, experiment)


def _no_mlflow(uri: str) -> RecordResult:
    return RecordResult(False, uri, "mlflow is not here: pip install 'editsweep[mlflow]'")
