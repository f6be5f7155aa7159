"""What editors need beforehand: made once by content, kept as safetensors, shared by all edits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from editsweep.core.types import Corpus
from editsweep.model.language_model import LanguageModel


@dataclass(frozen=True)
class Asset:
    """Something made once for many edits: tensors and plain JSON."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Requirement(Protocol):
    """A frozen dataclass that says what an editor needs beforehand and makes it.

    `source` names the data it reads, `name:split` or a path; `""` is the train split of the cell's
    own dataset, None means that it reads none. All other fields go into the cache key.
    """

    @property
    def source(self) -> str | None:
        """The data it reads."""

    def make(self, model: LanguageModel, corpus: Corpus, work: Path | None = None) -> Asset:
        """Make it from the records and texts of `source` (an empty corpus when that is None).

        `work` is a folder of its own for what it needs to go on after a crash; it may not be there
        yet, and is removed once the asset is kept. None: nothing is kept, and it starts anew.
        """
