"""The training file: one model, one editor that learns, one dataset; strict like a sweep file."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import field_validator, model_validator

from editsweep.core.names import flat, nested, safe_name
from editsweep.editors.base import EditorSpec
from editsweep.run.resolve import plain, usual
from editsweep.run.sweep import EditorChoice, ModelChoice, Strict, fitted, raw_values, read_file


class TrainingData(Strict):
    """The dataset whose train split is learnt from, named as in a sweep."""

    name: str
    path: str | None = None
    skip_bad: bool = False


class TrainingFile(Strict):
    """One network to train. `editor` is as in a sweep, without a grid."""

    name: str
    model: ModelChoice
    editor: EditorChoice
    dataset: TrainingData

    @field_validator("name")
    @classmethod
    def _can_be_a_folder(cls, value: str) -> str:
        return safe_name("training name", value)

    @model_validator(mode="after")
    def _one_network(self) -> Self:
        if self.editor.grid:
            raise ValueError("editor.grid: a training makes one network; write one file for each")
        return self


def load_training(path: Path, settings: Iterable[str] = ()) -> TrainingFile:
    """The training in the file at `path`, with `key=value` settings laid over it.

    Raises:
        ConfigError: the file cannot be read, or does not fit the schema; all faults at once.
    """
    return parse_training(read_file(path, "training"), settings, where=str(path))


def parse_training(
    text: str, settings: Iterable[str] = (), where: str = "training"
) -> TrainingFile:
    """The training in a YAML `text`; `where` leads the messages.

    Raises:
        ConfigError: the text does not fit the schema; all faults at once.
    """
    raw = raw_values(text, settings, where, "a training", TrainingFile)
    return fitted(TrainingFile, raw, where, "a training")


def training_text(
    name: str, model: Mapping[str, Any], editor: str, spec: EditorSpec, data: Mapping[str, Any]
) -> str:
    """The training file for this spec; only what is not the editor's default is written."""
    defaults, own = usual(spec), flat(plain(spec))
    changed = {key: value for key, value in own.items() if value != defaults.get(key)}
    entries = {
        "model": {key: value for key, value in model.items() if value},
        "editor": {"name": editor, **nested(changed)},
        "dataset": {key: value for key, value in data.items() if value},
    }
    return f"name: {name}\n" + "".join(f"{key}: {_flow(v)}\n" for key, v in entries.items())


def _flow(value: Mapping[str, Any]) -> str:
    """A mapping in one line; a name alone as itself. JSON is YAML."""
    alone = list(value) == ["name"]
    return json.dumps(value["name"] if alone else value, ensure_ascii=False)
