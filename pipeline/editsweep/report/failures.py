"""What went wrong: edits that did not take, edits that broke something else, and errors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from editsweep.report.columns import LOCALITY, SUCCESS, Column

NOT_LEARNT = "not learnt"
DAMAGE = "damage"

# Ranks edits that did not take: how unlikely the model finds the target.
UNLIKELY = Column("", SUCCESS.axis, "perplexity")
Answers = Callable[[Sequence[str]], pl.DataFrame]
"""The `answers` table of units by id."""


def worst(
    plan: Mapping[str, Any],
    edits: pl.DataFrame,
    measurements: pl.DataFrame,
    answers: Answers,
    per_cell: int = 3,
) -> pl.DataFrame:
    """The worst edits of each cell, with what the model said before and after.

    Two kinds, at most `per_cell` of each in each cell: edits whose own prompt is not answered with
    the target (the least likely target first), and edits that took but changed answers which had
    to stay (the most changed first). Answers are read of these edits' units only.

    Returns:
        `cell_id label kind edit_id prompt target axis asked expected pre_said post_said score`, in
        the order of the plan. `prompt` and `target` are the edit's; `asked` is the probe that went
        wrong; `score` is the target's mean log-probability a token in nats (null if its perplexity
        was not measured), or the share of probes' tokens that stayed.
    """
    own = ["cell_id", "edit_id"]
    success = _score(measurements, SUCCESS, own)
    unlikely = _score(measurements, UNLIKELY, own).with_columns(score=-pl.col("value").log())
    lost = (
        success.filter(pl.col("value") < 1)
        .join(unlikely.select(*own, "score"), on=own, how="left")
        .with_columns(kind=pl.lit(NOT_LEARNT), probe_id=pl.lit(None, pl.String))
    )
    probes = _score(measurements, LOCALITY, [*own, "probe_id"])
    per_edit = probes.group_by(own, maintain_order=True).agg(score=pl.col("value").mean())
    broken = (
        probes.filter(pl.col("value") < 1)
        .sort(*own, "value", "probe_id")
        .unique(own, keep="first", maintain_order=True)
        .join(success.filter(pl.col("value") == 1), on=own, how="semi")
        .join(per_edit, on=own)
        .with_columns(kind=pl.lit(DAMAGE))
    )
    columns = (*own, "probe_id", "kind", "score")
    found = pl.concat([lost.select(columns), broken.select(columns)])
    return _told(_pick(found, plan, edits, per_cell), answers)


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
    """The mean of a metric after the edit, where it has a value."""
    chosen = measurements.filter(
        pl.col("axis") == column.axis,
        pl.col("metric") == column.metric,
        pl.col("phase") == "post",
        pl.col("value").is_not_null(),
    ).with_columns(pl.col("cell_id", "edit_id", "probe_id").cast(pl.String))
    return (
        chosen.sort(*by, "probe_id").group_by(by, maintain_order=True).agg(pl.col("value").mean())
    )


def _pick(
    found: pl.DataFrame, plan: Mapping[str, Any], edits: pl.DataFrame, per_cell: int
) -> pl.DataFrame:
    """The worst of each cell and kind, with the unit and the words of the edit."""
    facts = edits.select(
        "cell_id", "edit_id", "unit_id", "position", prompt=_question(), target="target_new"
    ).unique(["cell_id", "edit_id"], keep="first", maintain_order=True)
    ranked = (
        _labelled(found, plan)
        .join(facts, on=["cell_id", "edit_id"])
        .sort("order", pl.col("kind") != NOT_LEARNT, "score", "position", nulls_last=True)
    )
    return ranked.group_by("cell_id", "kind", maintain_order=True).head(per_cell)


def _told(picked: pl.DataFrame, answers: Answers) -> pl.DataFrame:
    """The edits that were picked, with what was asked and said; those without an answer drop out."""
    said = answers(picked["unit_id"].unique().sort().to_list()).join(
        picked.select("cell_id", "edit_id").unique(), on=["cell_id", "edit_id"], how="semi"
    )
    # The first continuation stands for its probe.
    by_probe = (
        said.sort("cell_id", "edit_id", "probe_id", "role", "text")
        .unique(["cell_id", "edit_id", "axis", "probe_id"], keep="first", maintain_order=True)
        .select(
            *("cell_id", "edit_id", "probe_id", "axis", "role", "pre_said", "post_said"),
            asked="prompt",
            expected="text",
        )
    )
    target = by_probe.filter(pl.col("axis") == SUCCESS.axis, pl.col("role") == "answer").unique(
        ["cell_id", "edit_id"], keep="first", maintain_order=True
    )
    stayed = by_probe.filter(pl.col("axis") == LOCALITY.axis).with_columns(expected="pre_said")
    key = ["cell_id", "edit_id"]
    parts = [
        picked.filter(pl.col("kind") == NOT_LEARNT).drop("probe_id").join(target, on=key),
        picked.filter(pl.col("kind") == DAMAGE).join(stayed, on=[*key, "probe_id"]),
    ]
    columns = (
        *("order", "position", "cell_id", "label", "kind", "edit_id", "prompt", "target"),
        *("axis", "asked", "expected", "pre_said", "post_said", "score"),
    )
    return (
        pl.concat([part.select(columns) for part in parts])
        .sort("order", pl.col("kind") != NOT_LEARNT, "score", "position", nulls_last=True)
        .drop("order", "position")
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
