"""The models that have a name, each pinned by content; reading this loads no torch.

A sweep names a model by an entry of the catalogue, by a folder, or by `owner/name@commit` of the
Hugging Face hub. docs/models.md tells where each commit was looked up.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from editsweep.core.names import unknown
from editsweep.errors import ModelError
from editsweep.model.cache import file_sha256

Source = Literal["wheel", "hub", "path", "random"]

_HUB = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")


@dataclass(frozen=True)
class ModelEntry:
    """One model.

    `location` is a folder, a hub repository, a wheel as `name==version/file inside`, or the model
    type of a random one. `revision` is a sha256 or, for the hub, a commit. `dtype` is what it is
    loaded as unless the sweep says otherwise.
    """

    name: str
    source: Source
    location: str
    revision: str
    dtype: str
    licence: str
    notes: str = ""


def _hub(name: str, location: str, revision: str, dtype: str, licence: str, notes: str = "") -> Any:
    return ModelEntry(name, "hub", location, revision, dtype, licence, notes)
