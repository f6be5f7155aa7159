"""No edit at all: the floor that every editor is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from editsweep.core.types import EditRequest
from editsweep.editors.base import Asset, Edited, Editor, Requirement
from editsweep.model.language_model import LanguageModel


@dataclass(frozen=True)
class NoneSpec:
    """The unedited model; no hyperparameters."""

    name: ClassVar[str] = "none"
    regimes: ClassVar[frozenset[str]] = frozenset({"single", "batch", "sequential"})

    def requirements(self) -> Mapping[str, Requirement]:
        """Nothing."""
        return {}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """An editor that leaves the model as it is."""
        return _Unedited()


class _Unedited:
    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        return [Edited() for _ in groups]
