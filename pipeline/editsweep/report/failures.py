"""What went wrong: edits that did not take, edits that broke something else, and errors."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from editsweep.report.columns import LOCALITY, SUCCESS, Column

NOT_LEARNT = "not learnt"
DAMAGE = "damage"


def worst(
    plan: Mapping[str, Any],
    edits: pl.DataFrame,
    measurements: pl.DataFrame,
    answers: pl.DataFrame,
    per_cell: int = 3,
) -> pl.DataFrame:
    """The worst edits of each cell, with what the model said before and after.

    Two kinds, at most `per_cell` of each in each cell: edits whose own prompt is not answered with
    the target (the least likely target first), and edits that took but changed answers which had
    to stay (the most changed first).

    Returns:
        `cell_id label kind edit_id prompt target axis asked expected pre_said post_said score`, in
        the order of the plan. `prompt` and `target` are the edit's; `asked` is the probe that went
        wrong; `score` is the target's mean log-probability a token in nats, or the share of
        probes' tokens that stayed.
    """
    success = _score(measurements, SUCCESS, ["cell_id", "edit_id"])
    lost = (
        success.filter(pl.col("value") < 1)
        .join(_said(answers, SUCCESS.axis, "answer"), on=["cell_id", "edit_id"])
        .with_columns(kind=pl.lit(NOT_LEARNT), score="logprob")
    )
    taken = success.filter(pl.col("value") == 1).select("cell_id", "edit_id")
    probes = _score(measurements, LOCALITY, ["cell_id", "edit_id", "probe_id"])
    per_edit = probes.group_by("cell_id", "edit_id", maintain_order=True).agg(
        score=pl.col("value").mean()
    )
    broken = (
        probes.filter(pl.col("value") < 1)
        .sort("cell_id", "edit_id", "value", "probe_id")
        .unique(["cell_id", "edit_id"], keep="first", maintain_order=True)
        .join(taken, on=["cell_id", "edit_id"], how="semi")
        .join(per_edit, on=["cell_id", "edit_id"])
        .join(_said(answers, LOCALITY.axis, None), on=["cell_id", "edit_id", "probe_id"])
        .with_columns(kind=pl.lit(DAMAGE), expected="pre_said")
    )
    columns = ("cell_id", "edit_id", "kind", "axis", "asked", "expected")
    said = (*columns, "pre_said", "post_said", "score")
    found = pl.concat([lost.select(said), broken.select(said)])
    return _pick(found, plan, edits, per_cell)


def errors(plan: Mapping[str, Any], edits: pl.DataFrame) -> pl.DataFrame:
    """One row a cell and kind of error: `cell_id label error_kind edits error_text prompt target`.

    The text, prompt and target are those of the first such edit.
    """
    failed = edits.filter(pl.col("status") == "failed").sort("position", "edit_id")
    grouped = failed.group_by("cell_id", "error_kind", maintain_order=True).agg(
        edits=pl.len().cast(pl.Int64),
        error_text=pl.col("error_text").first(),
        prompt=_question().first(),
        target=pl.col("target_new").first(),
    )
    columns = ("cell_id", "label", "error_kind", "edits", "error_text", "prompt", "target")
    return _labelled(grouped, plan).sort("order", "error_kind").select(columns)


def _score(measurements: pl.DataFrame, column: Column, by: list[str]) -> pl.DataFrame:
    """The mean of a headline metric after the edit, where it has a value."""
    chosen = measurements.filter(
        pl.col("axis") == column.axis,
        pl.col("metric") == column.metric,
        pl.col("phase") == "post",
        pl.col("value").is_not_null(),
    )
    return (
        chosen.sort(*by, "probe_id").group_by(by, maintain_order=True).agg(pl.col("value").mean())
    )


def _said(answers: pl.DataFrame, axis: str, role: str | None) -> pl.DataFrame:
    """What was said to each probe of an axis; its first continuation stands for the probe."""
    chosen = answers.filter(pl.col("axis") == axis)
    if role is not None:
        chosen = chosen.filter(pl.col("role") == role)
    return (
        chosen.sort("cell_id", "edit_id", "probe_id", "role", "text")
        .unique(["cell_id", "edit_id", "probe_id"], keep="first", maintain_order=True)
        .select(
            *("cell_id", "edit_id", "probe_id", "axis", "pre_said", "post_said"),
            asked="prompt",
            expected="text",
            logprob=pl.col("post_logprobs").list.mean().cast(pl.Float64),
        )
    )


def _pick(
    found: pl.DataFrame, plan: Mapping[str, Any], edits: pl.DataFrame, per_cell: int
) -> pl.DataFrame:
    facts = edits.select(
        "cell_id", "edit_id", "position", prompt=_question(), target="target_new"
    ).unique(["cell_id", "edit_id"], keep="first", maintain_order=True)
    ranked = (
        _labelled(found, plan)
        .join(facts, on=["cell_id", "edit_id"])
        .sort("order", pl.col("kind") != NOT_LEARNT, "score", "position", "edit_id", "asked")
    )
    return (
        ranked.group_by("cell_id", "kind", maintain_order=True)
        .head(per_cell)
        .select(
            *("cell_id", "label", "kind", "edit_id", "prompt", "target"),
            *("axis", "asked", "expected", "pre_said", "post_said", "score"),
        )
    )


def _labelled(frame: pl.DataFrame, plan: Mapping[str, Any]) -> pl.DataFrame:
    """`frame` with the label and the place in the plan of each cell."""
    cells = pl.DataFrame(
        [{"cell_id": cell["cell_id"], "label": cell["label"]} for cell in plan["cells"]],
        schema={"cell_id": pl.String, "label": pl.String},
    ).with_row_index("order")
    return frame.join(cells, on="cell_id", maintain_order="left")


def _question() -> pl.Expr:
    """The prompt with its subject in place."""
    filled = pl.col("prompt").str.replace("{}", pl.col("subject"), literal=True)
    return pl.coalesce(filled, "prompt")
