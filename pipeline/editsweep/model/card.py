"""The README of an exported folder: what was edited, with what, and how to load it."""

import json
from collections.abc import Sequence

from editsweep.model.about import About

SHOWN = 20
"""So many facts are listed; a patch may hold thousands."""


def card(about: About, library: str, code: Sequence[str]) -> str:
    """A model card in Markdown.

    Args:
        about: what the patch is.
        library: what loads the folder, as model hubs call it.
        code: lines of Python that load it.
    """
    head = {"base_model": about.base.partition("@")[0], "library_name": library}
    front = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    return "\n".join(
        [
            "---",
            *front,
            'tags: ["model-editing"]',
            "---",
            f"# An edit of {about.model.name}",
            "",
            *_facts(about),
            "| | |",
            "|---|---|",
            *(f"| {name} | {_cell(value)} |" for name, value in _rows(about)),
            "",
            "```python",
            *code,
            "```",
            "",
        ]
    )


def _facts(about: About) -> list[str]:
    if not about.requests:
        return []
    rows = [
        f"| {_cell(r.question)} | {_cell(r.target_new)} | {_cell(r.target_true or '')} |"
        for r in about.requests[:SHOWN]
    ]
    more = len(about.requests) - SHOWN
    rest = [f"and {more:,} more.", ""] if more > 0 else []
    return ["| prompt | new answer | old answer |", "|---|---|---|", *rows, "", *rest]


def _rows(about: About) -> list[tuple[str, str]]:
    model = about.model
    rows = [("base model", about.base), ("revision", model.revision)]
    rows += [("licence of the base model", model.licence)] if model.licence else []
    rows += [("precision", model.dtype)]
    if about.editor:
        rows += [("editor", about.editor), ("hyperparameters", json.dumps(dict(about.params)))]
        rows += [("seed", str(about.seed))]
    rows += [("restrained", json.dumps(dict(about.restrain)))] if about.restrain else []
    return [*rows, ("EditSweep", about.version)]


def _cell(text: str) -> str:
    """`text` for a cell of a Markdown table: one line, and no bar or tag of its own."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
