"""Two cells on the same edits: difference, interval, p, and how many edits would tell them apart.

Rates are tested by McNemar's exact test on the edits in which the two differ, other means by the
paired bootstrap over subjects; p is corrected over the table after Holm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import normal_sample_size_one_tail

from editsweep.core.names import unknown
from editsweep.errors import ConfigError
from editsweep.report.aggregate import AXIS_ORDER, alike
from editsweep.report.coded import Rows, per_edit
from editsweep.report.columns import HEADLINE
from editsweep.report.statistics import LEVEL, Sample, percentiles, resampled

POWER = 0.8
_KEY = ("axis", "metric", "protocol", "phase")
_SCHEMA = {
    **dict.fromkeys(("axis", "metric", "protocol"), pl.String),
    "n": pl.Int64,
    **dict.fromkeys(("a", "b", "difference", "ci_low", "ci_high", "p"), pl.Float64),
    "test": pl.String,
    "needed": pl.Int64,
    "p_holm": pl.Float64,
}


@dataclass(frozen=True)
class Side:
    """One cell of a sweep: its label, and the sweep's plan and tables `edits` and `measurements`."""

    label: str
    plan: Mapping[str, Any]
    edits: pl.DataFrame
    measurements: pl.DataFrame

    def values(self, known: bool | None = None) -> pl.DataFrame:
        """A row for each axis, metric, protocol and edit: `value` after the edit, `cluster`.

        `known` asks only for edits whose old fact the unedited model knew, or did not.

        Raises:
            ConfigError: the sweep has no such cell; the message has the nearest.
        """
        ids = {cell["label"]: cell["cell_id"] for cell in self.plan["cells"]}
        if self.label not in ids:
            raise unknown("cell", self.label, ids)
        own = pl.col("cell_id") == ids[self.label]
        edits = self.edits.filter(own)
        if known is not None:
            edits = edits.filter(pl.col("known") == known)
        asked = self.measurements.filter(own, pl.col("phase") == "post")
        chosen = asked.join(alike(edits, asked), on="edit_id", how="semi")
        rows = Rows.of(chosen, edits)
        return per_edit(rows, _KEY).frame(rows).drop("cell_id")


def compare(
    a: Side,
    b: Side,
    difference: float = 0.05,
    headline: bool = True,
    known: bool | None = None,
) -> pl.DataFrame:
    """A row a metric, over the edits for which both cells have a value.

    Args:
        a: one cell.
        b: another, of the same or of another sweep.
        difference: which difference of means `needed` is about.
        headline: only the metrics of the leaderboard's headline.
        known: only edits whose old fact both unedited models knew (True), or neither did (False).

    Returns:
        `axis metric protocol n a b difference ci_low ci_high p test needed p_holm`. `difference` is
        a − b with its 95 % interval (paired bootstrap over subjects); `test` is `mcnemar` or
        `bootstrap`; `needed` is the number of edits with which a difference of that size would be
        seen in four of five samples, null where the two never differ.

    Raises:
        ConfigError: there is no such cell, or the two have no edit in common.
    """
    pairs = a.values(known).join(b.values(known), on=[*_KEY, "edit_id"], suffix="_b")
    pairs = pairs.drop_nulls(["value", "value_b"]).sort(*_KEY, "edit_id")
    if headline:
        shown = [(column.axis, column.metric) for column in HEADLINE]
        pairs = pairs.filter(
            pl.any_horizontal(
                (pl.col("axis") == axis) & (pl.col("metric") == metric) for axis, metric in shown
            )
        )
    if pairs.is_empty():
        of = {None: "", True: " whose old fact was known", False: " whose old fact was not known"}
        raise ConfigError(
            f"{a.label!r} and {b.label!r} have no measured edit in common{of[known]}: compare cells "
            "of the same dataset"
        )
    groups = list(pairs.group_by("axis", "metric", "protocol", maintain_order=True))
    samples = [Sample.of(_apart(group), group["cluster"].to_numpy()) for _, group in groups]
    drawn = zip(groups, resampled(samples), strict=True)
    rows = [_row(key, group, means, difference) for (key, group), means in drawn]
    holm = multipletests([row["p"] for row in rows], method="holm")[1]
    made = [{**row, "p_holm": float(p)} for row, p in zip(rows, holm, strict=True)]
    return pl.DataFrame(made, schema=_SCHEMA).sort(AXIS_ORDER, "metric", "protocol")


def _apart(pairs: pl.DataFrame) -> NDArray[np.float64]:
    return (pairs["value"] - pairs["value_b"]).to_numpy()


def _row(
    key: Sequence[object],
    pairs: pl.DataFrame,
    drawn: NDArray[np.float64] | None,
    difference: float,
) -> dict[str, Any]:
    """`drawn` are means of the difference over drawn subjects; None with a single one."""
    first, second = pairs["value"].to_numpy(), pairs["value_b"].to_numpy()
    apart = _apart(pairs)
    low, high = (None, None) if drawn is None else percentiles(drawn[None])[0][:2]
    is_rate = bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    p = _mcnemar(first, second) if is_rate else _two_sided(drawn)
    return {
        **dict(zip(("axis", "metric", "protocol"), key, strict=True)),
        "n": len(apart),
        "a": float(first.mean()),
        "b": float(second.mean()),
        "difference": float(apart.mean()),
        "ci_low": low,
        "ci_high": high,
        "p": p,
        "test": "mcnemar" if is_rate else "bootstrap",
        "needed": _needed(apart, difference),
    }


def _mcnemar(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    table = [[np.sum((first == i) & (second == j)) for j in (1, 0)] for i in (1, 0)]
    return float(mcnemar(table, exact=True).pvalue)


def _two_sided(drawn: NDArray[np.float64] | None) -> float:
    """Twice the share of draws on the rarer side of no difference, never quite zero; 1 for none."""
    if drawn is None:
        return 1.0
    side = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return min(1.0, 2 * (side + 1) / (len(drawn) + 1))


def _needed(apart: NDArray[np.float64], difference: float) -> int | None:
    spread = float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
    if spread == 0:
        return None
    found = normal_sample_size_one_tail(difference, POWER, (1 - LEVEL) / 2, std_null=spread)
    return max(2, int(np.ceil(found)))
