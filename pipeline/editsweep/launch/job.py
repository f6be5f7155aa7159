"""What is submitted: a sweep that was checked, and what a target is."""

import math
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args, get_type_hints

import yaml

from editsweep.core.names import safe_name, unknown
from editsweep.errors import ConfigError
from editsweep.launch import TARGETS
from editsweep.launch.flags import NO_FLAGS, Flags
from editsweep.run.layout import Machine, lay_out
from editsweep.run.plain_yaml import parse
from editsweep.run.plan import make_plan
from editsweep.run.resolve import filled, resolve
from editsweep.run.sweep import parse_sweep, sweep_text

SWEEP_FILE = "sweep.yaml"


@dataclass(frozen=True)
class Job:
    """A sweep to be run elsewhere.

    `sweep` is its whole YAML text, `folder` the absolute path from which relative paths in it and
    `out` start, `units` how many there are to share out, `flags` what else `run` is given.

    Raises:
        ConfigError: `name` cannot name a folder.
    """

    name: str
    sweep_id: str
    sweep: str
    folder: str
    out: str
    units: int
    flags: Flags = NO_FLAGS

    def __post_init__(self) -> None:
        """Targets put the name where nothing can be quoted."""
        safe_name("sweep name", self.name)

    @property
    def job_id(self) -> str:
        """The same sweep has the same id, wherever and whenever it is submitted."""
        return f"{self.name}-{self.sweep_id[:12]}"


@dataclass(frozen=True)
class Submitted:
    """What came of it: `job_id` by the scheduler, `already` if it was there before.

    `follow` are commands that look at it.
    """

    job_id: str
    status: str
    already: bool = False
    follow: tuple[str, ...] = ()


class Target(Protocol):
    """A scheduler, with what is asked of it."""

    name: ClassVar[str]

    def render(self, job: Job) -> str:
        """All that is submitted, as text; the same job and settings give the same text.

        Raises:
            ConfigError: the settings and the job do not go together.
        """
        ...

    def submit(self, job: Job) -> Submitted:
        """Hand what `render` gives to the scheduler.

        Raises:
            ConfigError: the tool of the scheduler is not here.
            WorkerError: the scheduler does not take it.
        """
        ...


def make_target(name: str, settings: Iterable[str] = ()) -> Target:
    """The target `name` with `key=value` settings; text needs no quotes.

    Raises:
        ConfigError: there is no such target or setting, or a value does not fit.
    """
    made = TARGETS.load(name)
    hints = get_type_hints(made)
    known = [field.name for field in fields(made)]
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--with {setting!r}: write key=value, e.g. {known[0]}=...")
        if key not in known:
            raise ConfigError(f"--with {setting}: {unknown(f'setting of {name}', key, known)}")
        if key in values:
            raise ConfigError(f"--with {setting}: {key!r} has a value already; keep one")
        is_text = str in (hints[key], *get_args(hints[key]))
        values[key] = text if is_text else parse(text, f"--with {setting}")
    target: Target = filled(made, values, f"--with {name}", f"setting of {name}")
    return target


def make_job(
    path: Path,
    out: Path,
    settings: Iterable[str] = (),
    limit: int | None = None,
    skip_bad: bool = False,
    flags: Flags = NO_FLAGS,
) -> Job:
    """The sweep in the file at `path`, checked as `plan` does, to be run from this folder.

    Raises:
        ConfigError: the sweep cannot be done as it is written.
        DataError: records are bad.
        ModelError: a folder holds no model.
    """
    text = sweep_text(path, settings, limit, skip_bad)
    plan = make_plan(resolve(parse_sweep(text, where=str(path))))
    folder = str(Path.cwd())
    return Job(plan.name, plan.sweep_id, text, folder, str(out), len(plan.units), flags)


class _Dumper(yaml.SafeDumper):
    """Plain values only; a text of several lines stands as it is."""


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(*documents: Any) -> str:
    """Plain values as YAML that people can read, one document each."""
    return str(
        yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    )


def quoted(words: Iterable[str]) -> str:
    """A command line for a shell that takes each word as it is."""
    return " ".join(shlex.quote(word) for word in words)


def share_options(workers: int | None, threads: int | None) -> tuple[str, ...]:
    """The options of `run` that share the machines out; what is None is chosen there."""
    chosen = (("--workers", workers), ("--threads", threads))
    given = [(option, str(value)) for option, value in chosen if value is not None]
    return tuple(word for pair in given for word in pair)


def spread(
    nodes: int, node: Machine, job: Job, workers: int | None = None, threads: int | None = None
) -> tuple[str, ...]:
    """The same for so many equal nodes: no worker is wider than a node.

    Raises:
        ConfigError: the nodes do not hold that many workers, or have no GPU to give parts of.
    """
    part = job.flags.gpus_per_worker
    if part is not None and not node.gpus:
        raise ConfigError(f"--gpus-per-worker {part:g}: the nodes have no GPU, add --with gpus=N")
    on_each = None if workers is None else math.ceil(workers / nodes)
    layout = lay_out(node, math.ceil(job.units / nodes), on_each, threads, part)
    return share_options(workers or layout.workers * nodes, layout.threads)


def at_least(name: str, value: float | None, least: int) -> None:
    """Hold a number of a target to its smallest value.

    Raises:
        ConfigError: it is smaller.
    """
    if value is not None and value < least:
        raise ConfigError(f"{name} {value}: write {least} or more")
