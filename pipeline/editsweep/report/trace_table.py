"""Numbers of causal tracing over facts: the mean indirect effect by what a token is to the subject."""

import polars as pl
import pyarrow as pa

from editsweep.core import schema

ROLE_NAMES = {
    "first_subject": "first subject token",
    "middle_subject": "middle subject tokens",
    "last_subject": "last subject token",
    "first_after": "first token after",
    "further": "further tokens",
    "last": "last token",
}
_Z = 1.959964


def roles(traces: pa.Table) -> pa.Table:
    """The averaged indirect effect of each kind, role and layer, a table of `schema.ROLES`.

    Tokens of one role are averaged within a fact first, so a fact counts once however long its
    prompt is. Tokens before the subject have no effect and no row.
    """
    frame = pl.from_arrow(traces)
    assert isinstance(frame, pl.DataFrame)
    key = ["kind", "role", "layer"]
    order = {name: place for place, name in enumerate(ROLE_NAMES)}
    made = (
        frame.filter(pl.col("role").is_in(list(ROLE_NAMES)))
        .group_by("fact_id", *key, maintain_order=True)
        .agg(pl.col("effect").mean())
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("effect").mean(),
            n=pl.len().cast(pl.Int64),
            half=_Z * pl.col("effect").std() / pl.len().sqrt(),
        )
        .with_columns(ci_low=pl.col("effect") - pl.col("half"))
        .with_columns(ci_high=pl.col("effect") + pl.col("half"))
        .sort("kind", pl.col("role").replace_strict(order, return_dtype=pl.Int32), "layer")
    )
    return schema.table(schema.ROLES, made.select(schema.ROLES.names).iter_rows(named=True))


def summary(traces: pa.Table) -> dict[str, float]:
    """Means over facts: the clean and the corrupted probability, and their difference."""
    frame = pl.from_arrow(traces)
    assert isinstance(frame, pl.DataFrame)
    facts = frame.unique("fact_id")
    ((clean, low),) = facts.select(pl.col("clean", "low").mean()).iter_rows()
    return {"facts": facts.height, "clean": clean, "low": low, "total_effect": clean - low}


def peaks(table: pa.Table) -> list[dict[str, object]]:
    """Of each kind the role and layer with the highest effect, rows of `roles`."""
    best: dict[str, dict[str, object]] = {}
    for row in sorted(table.to_pylist(), key=lambda row: -row["effect"]):
        best.setdefault(row["kind"], row)
    return [best[kind] for kind in ("state", "mlp", "attention") if kind in best]
