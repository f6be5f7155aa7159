"""The sweep file: one strict schema, read safely, with messages that say where and what.

Hyperparameters are checked later, by `resolve`, against the editor's own dataclass.
"""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from editsweep.core.names import flat, safe_name, unknown
from editsweep.core.scrub import scrubbed_json
from editsweep.core.types import AXES, Axis, Regime
from editsweep.errors import ConfigError
from editsweep.run.overrides import override
from editsweep.run.plain_yaml import parse

MAX_BYTES = 1_000_000
_Part = TypeVar("_Part", bound=BaseModel)


def _plain_regime(regime: Regime) -> str | dict[str, Any]:
    return regime.plain


_Regime = Annotated[Regime, BeforeValidator(Regime.parse), PlainSerializer(_plain_regime)]
_Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A part of a file: no key that it does not know, no text for a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        """A text alone is a name; an unknown key is answered with the nearest one."""
        if isinstance(value, str) and "name" in cls.model_fields:
            return {"name": value}
        if isinstance(value, Mapping):
            for key in value:
                if key not in cls.model_fields:
                    text = str(unknown("key", key, cls.model_fields))
                    raise PydanticCustomError("unknown_key", "{text}", {"text": text, "key": key})
        return value


class ModelChoice(Strict):
    """A model of the catalogue; `dtype` and `token_budget` replace the catalogue's.

    `trust_remote_code` lets Python code that lies beside the weights run. Only this says so: no
    entry of the catalogue and no variable does.
    """

    name: str
    trust_remote_code: bool = False
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    token_budget: _Count | None = None


class EditorChoice(Strict):
    """An editor with its hyperparameters, and lists of values to try in `grid`.

    `restrain` is how its changes are made smaller, as `Restraint.parse` reads it.
    """

    name: str
    label: str | None = None
    restrain: Any = None
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    params: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        """Every other key of the mapping is a hyperparameter."""
        if isinstance(value, str):
            return {"name": value}
        if not isinstance(value, Mapping):
            return value
        own = {key: value[key] for key in cls.model_fields if key in value and key != "params"}
        return {**own, "params": {key: value[key] for key in value if key not in own}}

    @model_validator(mode="after")
    def _no_value_twice(self) -> Self:
        both = sorted(set(flat(self.params)) & set(self.grid))
        if both:
            raise ValueError(f"{both[0]!r} stands beside `grid` and in it; keep one")
        return self


class DatasetChoice(Strict):
    """A dataset's split, or a user's own file in `path`; `limit` takes its first records."""

    name: str
    split: str = "test"
    limit: _Count | None = None
    path: str | None = None
    skip_bad: bool = False


class Metrics(Strict):
    """What to ask: which axes, where to speak freely and how long, and whether to compare by KL."""

    axes: list[Axis] = list(AXES)
    generate: list[Axis] = ["reliability"]
    max_new_tokens: Annotated[int, Field(ge=1, le=512)] = 50
    kl: bool = True


class Sweep(Strict):
    """A sweep: the product of models, editors, datasets, regimes and seeds."""

    name: str
    models: Annotated[list[ModelChoice], Field(min_length=1)]
    editors: Annotated[list[EditorChoice], Field(min_length=1)]
    datasets: Annotated[list[DatasetChoice], Field(min_length=1)]
    regimes: Annotated[list[_Regime], Field(min_length=1)] = [Regime()]
    seeds: Annotated[list[int], Field(min_length=1)] = [0]
    metrics: Metrics = Metrics()
    unit_size: _Count = 16

    @field_validator("name")
    @classmethod
    def _can_be_a_folder(cls, value: str) -> str:
        return safe_name("sweep name", value)


def load_sweep(
    path: Path, settings: Iterable[str] = (), limit: int | None = None, skip_bad: bool = False
) -> Sweep:
    """The sweep in the file at `path`, with `key=value` settings laid over it.

    `limit` and `skip_bad` are laid over every dataset.

    Raises:
        ConfigError: the file cannot be read, or does not fit the schema; all faults at once.
    """
    return parse_sweep(read_file(path, "sweep"), settings, limit, skip_bad, where=str(path))


def parse_sweep(
    text: str,
    settings: Iterable[str] = (),
    limit: int | None = None,
    skip_bad: bool = False,
    where: str = "sweep",
) -> Sweep:
    """The sweep in a YAML `text`; `where` leads the messages.

    Raises:
        ConfigError: the text does not fit the schema; all faults at once.
    """
    return fitted(Sweep, _laid_over(text, settings, limit, skip_bad, where), where, "a sweep")


def sweep_text(
    path: Path, settings: Iterable[str] = (), limit: int | None = None, skip_bad: bool = False
) -> str:
    """The file at `path` with all that is laid over it, as one YAML text, to be sent elsewhere.

    Raises:
        ConfigError: the file cannot be read, or a setting leads nowhere.
    """
    raw = _laid_over(read_file(path, "sweep"), settings, limit, skip_bad, str(path))
    return str(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True, width=100))


def _laid_over(
    text: str, settings: Iterable[str], limit: int | None, skip_bad: bool, where: str
) -> dict[str, Any]:
    raw = raw_values(text, settings, where, "a sweep", Sweep)
    for_all = [] if limit is None else [f"limit={limit}"]
    for_all += ["skip_bad=true"] if skip_bad else []
    for index, value in itertools.product(range(len(raw.get("datasets") or ())), for_all):
        raw = override(raw, f"datasets[{index}].{value}")
    return raw


def read_file(path: Path, what: str) -> str:
    """The text of a settings file; `what` it is, for messages.

    Raises:
        ConfigError: it cannot be read, or is far too large.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; this is not a {what} file")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from error


def raw_values(
    text: str, settings: Iterable[str], where: str, what: str, schema: type[BaseModel]
) -> dict[str, Any]:
    """The mapping in a YAML `text` with `key=value` settings laid over it, unchecked.

    Raises:
        ConfigError: the text is not a YAML mapping, a setting leads nowhere, or a secret is in it.
    """
    raw: Any = parse(text, where)
    if not isinstance(raw, dict):
        keys = ", ".join(f"`{key}`" for key in list(schema.model_fields)[:4])
        raise ConfigError(f"{where}: {what} is a mapping with {keys}, ...")
    for setting in settings:
        raw = override(raw, setting)
    if scrubbed_json(raw) != raw:
        raise ConfigError(
            f"{where}: a password of a URL, or the value of a secret variable (*TOKEN*, *KEY*, "
            f"*PASSWORD*, *SECRET*), stands in {what}, which is copied to where others read it: "
            "leave it out"
        )
    return dict(raw)


def fitted(schema: type[_Part], raw: Mapping[str, Any], where: str, what: str) -> _Part:
    """`raw` as the schema has it.

    Raises:
        ConfigError: it does not fit; all faults at once.
    """
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        lines = "\n  ".join(_line(e) for e in error.errors(include_url=False))
        raise ConfigError(f"{where} does not fit the schema of {what}:\n  {lines}") from error


def path_text(location: Iterable[str | int]) -> str:
    """`("editors", 1, "layr")` as `editors[1].layr`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


def _line(error: Any) -> str:
    location = error["loc"]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "unknown_key":
        location = (*location, error["ctx"]["key"])
    elif error["type"] != "missing" and not isinstance(error["input"], (dict, list)):
        message = f"{message} (here: {error['input']!r})"
    return f"{path_text(location)}: {message}" if location else str(message)
