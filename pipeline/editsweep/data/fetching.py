"""Getting a published file from the Hugging Face hub, when a user asks for it and never else."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from editsweep.core.names import unknown
from editsweep.data.manifest import Manifest, PublishedFile, manifest_of, place_of
from editsweep.errors import ConfigError, DataError
from editsweep.model.cache import file_sha256, publish


@dataclass(frozen=True)
class Fetched:
    """Where a file lies now, and its hash; `checked` says whether that was known before."""

    path: Path
    revision: str
    sha256: str
    checked: bool


def fetch(
    name: str, file: str | None = None, revision: str | None = None, folder: Path | None = None
) -> Fetched:
    """A published file of a dataset, the first if none is named.

    Without `folder` it goes to the cache, where `name` finds it from then on. A file whose hash
    is not the known one is not kept.

    Args:
        name: the dataset.
        file: the file's name, or its path in the repository.
        revision: a commit of the repository in place of the known one; the known hash holds only
            for that one.
        folder: put it there in place of the cache.

    Raises:
        ConfigError: no file of that name is on the hub, or no revision is known and none is given.
        DataError: it cannot be had, or it is not the known one.
    """
    manifest = manifest_of(name)
    wanted = _chosen(name, manifest, file)
    at = revision or wanted.revision
    if at is None:
        raise ConfigError(
            f"dataset {name!r}: no revision of {wanted.repository} is pinned: name a commit of it "
            f"with --revision (see https://huggingface.co/datasets/{wanted.repository}/commits)"
        )
    known = wanted.sha256 if at == wanted.revision else None
    target = place_of(manifest, wanted) if folder is None else folder / wanted.name
    if target.exists() and revision is not None:
        raise ConfigError(f"{target} is there already; remove it to fetch another revision")
    try:
        publish(lambda made: _get(wanted, at, known, made), target)
    except OSError as error:
        raise DataError(f"{target}: cannot be written ({error.strerror or error})") from error
    digest = _verified(target, known)
    return Fetched(target, at, digest, known is not None)


def _chosen(name: str, manifest: Manifest, file: str | None) -> PublishedFile:
    on_hub = [f for f in manifest.published if f.host == "hub"]
    if not on_hub:
        others = "".join(f"\n  {f.url}" for f in manifest.published)
        told = "get the file yourself" if others else "there is nothing to fetch"
        raise ConfigError(
            f"dataset {name!r} is not on the hub: {told}, and name it with --path{others}"
        )
    if file is None:
        return on_hub[0]
    found = next((f for f in on_hub if file in (f.name, f.path)), None)
    if found is None:
        raise unknown(f"file of dataset {name!r}:", file, [f.name for f in on_hub])
    return found


def _get(wanted: PublishedFile, revision: str, known: str | None, made: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    with tempfile.TemporaryDirectory(dir=made.parent) as scratch:
        try:
            got = hf_hub_download(
                wanted.repository,
                wanted.path,
                repo_type="dataset",
                revision=revision,
                local_dir=scratch,
            )
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise DataError(
                f"{wanted.path} of {wanted.repository} at {revision} cannot be had ({reason}); "
                f"look at the line, or get {wanted.url} yourself and name it with --path"
            ) from error
        _verified(Path(got), known)
        Path(got).rename(made)


def _verified(path: Path, known: str | None) -> str:
    digest = file_sha256(path)
    if known is not None and digest != known:
        raise DataError(
            f"{path.name}: its sha256 is {digest}, not {known}: it is not the file that is known; "
            "remove it if it is there, and fetch it again"
        )
    return digest
