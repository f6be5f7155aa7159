"""Which trained networks are not there yet, and the training file that makes each beforehand."""

from collections.abc import Iterator
from pathlib import Path

from editsweep.editors.base import EditorSpec
from editsweep.learn.trained import Trained
from editsweep.model.cache import cache_root
from editsweep.model.catalogue import resolve
from editsweep.run.assets import asset_folder
from editsweep.run.plan import Plan, Recipe
from editsweep.run.resolve import ModelUse
from editsweep.run.training_file import training_text


def trained_first(plan: Plan, cache: Path | None = None) -> Iterator[str]:
    """For each network that a sweep would have to train first, what that means and what else to do."""
    told = set()
    for cell in plan.cells.values():
        for recipe in cell.recipes.values():
            if recipe.key in told or not is_untrained(recipe, cache):
                continue
            told.add(recipe.key)
            trained = recipe.requirement
            assert isinstance(trained, Trained)
            yield (
                f"{cell.label}: its network for {cell.model.entry.name} is not in the cache; a worker "
                f"trains it first, at most {trained.training.steps} steps. "
                + how_to_train(cell.editor.name, cell.editor.spec, recipe, cell.model)
            )


def is_untrained(recipe: Recipe, cache: Path | None = None) -> bool:
    """Whether this is a trained network that is not in the cache."""
    is_trained = isinstance(recipe.requirement, Trained)
    return is_trained and not asset_folder(cache or cache_root(), recipe.key).exists()


def how_to_train(editor: str, spec: EditorSpec, recipe: Recipe, model: ModelUse) -> str:
    """What to write to a file, and the command that then makes this network."""
    source = recipe.source
    assert source is not None
    name = f"{editor}-{Path(source.name).stem}"
    entry = model.entry
    own = entry.dtype != resolve(entry.name).dtype
    said = {
        "name": entry.name,
        "dtype": entry.dtype if own else None,
        "token_budget": model.token_budget,
        "trust_remote_code": model.trust_remote_code,
    }
    home = {"name": source.name, "path": source.path, "skip_bad": source.skip_bad}
    text = training_text(name, said, editor, spec, home)
    lines = "".join(f"\n    {line}" for line in text.splitlines())
    return (
        f"To train it by itself, on as many workers as you like: editsweep train {name}.yaml "
        f"--workers N, where {name}.yaml is{lines}"
    )
