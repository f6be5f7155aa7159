"""A sweep that is made up for the bench is one that can be reported."""

import polars as pl

from editsweep.bench.tables import TIMES, made_up
from editsweep.run import publish


def test_cells_share_their_edits_and_units_are_whole(tmp_path):
    made_up(tmp_path / "sweep", cells=2, rows=1, draft=tmp_path / "unit")
    results = publish.results_of(tmp_path / "sweep")
    (edits,) = {cell["edits"] for cell in results.plan["cells"]}
    assert results.edits.height == 2 * edits == 2 * results.edits["edit_id"].n_unique()
    assert results.edits["position"].unique().sort().to_list() == list(range(edits))
    subjects = results.edits["subject"].n_unique()
    first = results.edits.filter(pl.col("position") < edits // TIMES)["subject"].n_unique()
    assert subjects == TIMES * first
    board = publish.board(results, tmp_path)
    assert board["missing"].sum() == 0
    assert board["cell_id"].n_unique() == 2
