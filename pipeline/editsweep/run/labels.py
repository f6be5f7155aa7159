"""A short text for each cell that says what is its own, and nothing that all cells share."""

from collections.abc import Sequence

from editsweep.core.names import flat
from editsweep.run.resolve import EditorUse, usual

# Model, dataset, regime, seed, editor.
Point = tuple[str, str, str, int, EditorUse]


def cell_labels(points: Sequence[Point]) -> list[str]:
    """One label a point, e.g. `rome`, `ike demonstrations=0` or `ft · gpt2-xl · seed 1`."""
    editors = list({id(editor): editor for *_, editor in points}.values())
    text = {id(editor): editor_label(editor, editors) for editor in editors}
    models, datasets, regimes, seeds = (
        len({point[place] for point in points}) > 1 for place in range(4)
    )
    labels = []
    for model, dataset, regime, seed, editor in points:
        parts = [text[id(editor)]]
        parts += [model] if models else []
        parts += [dataset] if datasets else []
        parts += [regime] if regimes else []
        parts += [f"seed {seed}"] if seeds else []
        labels.append(" · ".join(parts))
    return labels


def editor_label(editor: EditorUse, editors: Sequence[EditorUse]) -> str:
    """Its own label, or its name with the values that differ between its variants and the default."""
    if editor.label is not None:
        return editor.label
    variants = [flat(other.params) for other in editors if other.name == editor.name]
    defaults = usual(editor.spec)
    told = [
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in flat(editor.params).items()
        if value != defaults.get(key) and any(other.get(key) != value for other in variants)
    ]
    told += [] if editor.restrain is None else [str(editor.restrain)]
    return " ".join([editor.name, *told])
