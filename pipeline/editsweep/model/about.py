"""What a patch is: which facts, planted by which editor into which model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from editsweep import __version__
from editsweep.core.types import EditRequest
from editsweep.model.catalogue import ModelEntry

_MODEL_FIELDS = ("name", "source", "location", "revision", "dtype", "licence")
_REQUEST_FIELDS = ("subject", "prompt", "target_new", "target_true")


@dataclass(frozen=True)
class About:
    """Where a patch comes from; it travels with the patch as plain JSON.

    `model` is the unedited model, `params` all hyperparameters of the editor as plain JSON,
    `restrain` what `model.restrain` did to the patch, `version` that of EditSweep.
    """

    model: ModelEntry
    editor: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    requests: tuple[EditRequest, ...] = ()
    restrain: Mapping[str, float] | None = None
    version: str = __version__

    @property
    def base(self) -> str:
        """The unedited model as a person names it: see `model.catalogue.resolve`."""
        model = self.model
        return {"hub": f"{model.location}@{model.revision}", "path": model.location}.get(
            model.source, model.name
        )

    def to_json(self) -> dict[str, Any]:
        """As a patch file keeps it; of the requests what was asked for, without the probes."""
        return {
            "model": {name: getattr(self.model, name) for name in _MODEL_FIELDS},
            "editor": self.editor,
            "params": dict(self.params),
            "seed": self.seed,
            "requests": [{n: getattr(r, n) for n in _REQUEST_FIELDS} for r in self.requests],
            "restrain": None if self.restrain is None else dict(self.restrain),
            "version": self.version,
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "About":
        """The reverse of `to_json`."""
        requests = tuple(EditRequest.of(**request) for request in said["requests"])
        return cls(**{**said, "model": ModelEntry(**said["model"]), "requests": requests})
