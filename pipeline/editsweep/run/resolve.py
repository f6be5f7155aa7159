"""From the names of a sweep to what they stand for: models, specs, records. Reads, never writes."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from editsweep.core.ids import content_id
from editsweep.core.names import flat, nested, unknown
from editsweep.core.types import Corpus
from editsweep.data import registry
from editsweep.data.asked import asked_on
from editsweep.data.dataset import Dataset
from editsweep.data.texts import read_texts, statements
from editsweep.editors import EDITORS
from editsweep.editors.base import EditorSpec
from editsweep.errors import ConfigError
from editsweep.model.catalogue import ModelEntry
from editsweep.model.catalogue import resolve as resolve_model
from editsweep.model.restrain import Restraint
from editsweep.run.sweep import DatasetChoice, EditorChoice, ModelChoice, Sweep


@dataclass(frozen=True)
class ModelUse:
    """A model as this sweep uses it; `token_budget` None leaves it to the loader.

    With `trust_remote_code` the revision of the entry of a folder covers its code too.
    """

    entry: ModelEntry
    token_budget: int | None = None
    trust_remote_code: bool = False

    @property
    def described(self) -> list[str]:
        """All that decides its answers, as plain JSON for ids."""
        code = ["trust_remote_code"] if self.trust_remote_code else []
        return [self.entry.name, self.entry.revision, self.entry.dtype, *code]

    @property
    def trust(self) -> dict[str, bool]:
        """What plans say of its code: nothing, unless it is run."""
        return {"trust_remote_code": True} if self.trust_remote_code else {}


@dataclass(frozen=True)
class EditorUse:
    """One editor with one choice of hyperparameters; `params` are all of them as plain JSON.

    `where` is the place in the sweep file, for messages; `restrain` what is done to its patches.
    """

    name: str
    spec: EditorSpec
    params: Mapping[str, Any]
    label: str | None
    where: str
    restrain: Restraint | None = None

    @property
    def described(self) -> list[Any]:
        """All that decides its patches, as plain JSON for ids."""
        restrained = [] if self.restrain is None else [self.restrain.plain]
        return [self.name, self.params, *restrained]


@dataclass(frozen=True)
class Source:
    """A split that something is made from, by the names with which it can be loaded anywhere."""

    name: str
    split: str
    path: str | None = None
    skip_bad: bool = False

    @classmethod
    def of(cls, source: str, home: "Source") -> "Source":
        """What a requirement's `source` means; `""` is the train split of `home`.

        Bad records are left out of it if they are of `home`.

        Raises:
            ConfigError: `home` has no train split, or there is no such dataset or split.
        """
        if source:
            name, split, path = registry.parse_source(source)
            return cls(name, split, None if path is None else str(path), home.skip_bad)
        if "train" not in registry.splits(home.name):
            has = ", ".join(registry.splits(home.name))
            raise ConfigError(
                f"dataset {home.name!r} has no train split to learn from (it has {has}); name "
                "other data, e.g. world:train, my_edits.jsonl or zsre@FILE"
            )
        return replace(home, split="train")

    def load(self, limit: int | None = None) -> Dataset:
        """The records.

        Raises:
            ConfigError: there is no such dataset or split.
            DataError: the data are missing or bad.
        """
        path = None if self.path is None else Path(self.path)
        return registry.load(self.name, self.split, limit, path, self.skip_bad)

    def corpus(self) -> tuple[Corpus, str]:
        """What is made from it, and the hash of that: records and texts, or a text file's lines.

        Raises:
            ConfigError: there is no such dataset or split.
            DataError: the data are missing or bad.
        """
        if self.path is None and self.name.endswith(".txt"):
            texts = read_texts(Path(self.name))
            return Corpus(texts=texts), content_id(list(texts))
        data = self.load()
        return Corpus(data.requests, tuple(statements(data.requests))), data.digest


@dataclass(frozen=True)
class Records:
    """The records of one entry of `datasets`, with only the probes of the chosen axes."""

    source: Source
    data: Dataset
    where: str


@dataclass(frozen=True)
class Resolved:
    """A sweep with everything that its names stand for."""

    sweep: Sweep
    models: tuple[ModelUse, ...]
    editors: tuple[EditorUse, ...]
    datasets: tuple[Records, ...]
    digests: Mapping[Source, str]


def resolve(sweep: Sweep) -> Resolved:
    """Look up every name of `sweep`, check hyperparameters, read the records.

    Raises:
        ConfigError: a name or a hyperparameter is wrong; the message says where.
        DataError: records are bad.
        ModelError: a folder holds no model.
    """
    models = tuple(model_use(choice) for choice in sweep.models)
    editors = tuple(
        use
        for index, choice in enumerate(sweep.editors)
        for use in editor_uses(choice, f"editors[{index}]")
    )
    datasets = _told_apart(
        [
            _records(choice, sweep.metrics.axes, f"datasets[{index}]")
            for index, choice in enumerate(sweep.datasets)
        ]
    )
    digests = {source: source.corpus()[1] for source in dict.fromkeys(_sources(editors, datasets))}
    return Resolved(sweep, models, editors, datasets, digests)


def make_spec(name: str, params: Mapping[str, Any], where: str) -> EditorSpec:
    """The spec of editor `name` with these hyperparameters.

    Those of a part of it are a mapping (`training: {steps: 5}`) or dotted (`training.steps: 5`);
    what is not named keeps the editor's default.

    Raises:
        ConfigError: one is unknown, of the wrong type, missing or out of range.
    """
    try:
        chosen = nested(params)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    spec: EditorSpec = filled(EDITORS.load(name), chosen, where, f"hyperparameter of {name}")
    return spec


def filled(made: Any, values: Mapping[str, Any], where: str, kind: str) -> Any:
    """A new `made`, a dataclass, with these values; `kind` says what they are, for messages.

    Raises:
        ConfigError: one is unknown, of the wrong type, missing or out of range.
    """
    return _filled(made, None, values, where, kind)


def _filled(made: Any, start: Any, params: Mapping[str, Any], where: str, kind: str) -> Any:
    """`start` with these fields replaced, or a new `made` if there is none."""
    hints = get_type_hints(made)
    known = {field.name: field for field in fields(made) if field.init}
    values = {}
    for key, value in params.items():
        place = f"{where}.{key}"
        if key not in known:
            raise ConfigError(f"{place}: {unknown(kind, key, known)}")
        if not is_dataclass(hints[key]):
            values[key] = _typed(hints[key], value, place)
        elif isinstance(value, Mapping):
            begin = _default(known[key]) if start is None else getattr(start, key)
            begin = None if begin is MISSING else begin
            values[key] = _filled(hints[key], begin, value, place, f"{kind}.{key}")
        else:
            parts = ", ".join(field.name for field in fields(hints[key]))
            raise ConfigError(f"{place}: write a mapping of {parts} (here: {value!r})")
    for key, field in known.items():
        if start is None and key not in values and _default(field) is MISSING:
            raise ConfigError(f"{where}.{key}: a {kind} that needs a value")
    try:
        return made(**values) if start is None else replace(start, **values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _default(field: Field[Any]) -> Any:
    """A field's default, or MISSING."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def usual(spec: Any) -> dict[str, Any]:
    """The defaults of a spec or its class as plain JSON, dotted where nested; MISSING if none."""
    found = {field.name: _default(field) for field in fields(spec)}
    parts = {n: plain(v) if is_dataclass(v) else v for n, v in found.items() if v is not MISSING}
    made = flat(json.loads(json.dumps(parts)))
    return made | {name: MISSING for name, value in found.items() if value is MISSING}


def plain(spec: Any) -> dict[str, Any]:
    """All fields of a dataclass as JSON has them."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return values


def model_use(choice: ModelChoice) -> ModelUse:
    """The model of the catalogue, with what the choice replaces."""
    trusted = choice.trust_remote_code
    entry = resolve_model(choice.name, code=trusted)
    entry = replace(entry, dtype=choice.dtype or entry.dtype)
    return ModelUse(entry, choice.token_budget, trusted)


def editor_uses(choice: EditorChoice, where: str) -> Iterator[EditorUse]:
    """One use for each point of the grid, in the order of the file; `where` leads the messages."""
    restrain = None if choice.restrain is None else restraint(choice.restrain, where)
    for values in itertools.product(*choice.grid.values()):
        point = dict(zip(choice.grid, values, strict=True))
        spec = make_spec(choice.name, {**choice.params, **point}, where)
        label = choice.label
        if label is not None and point:
            label = " ".join([label, *(f"{key}={value}" for key, value in point.items())])
        yield EditorUse(choice.name, spec, plain(spec), label, where, restrain)


def restraint(value: Any, where: str) -> Restraint:
    """What is done to an editor's patches; `where` leads the message.

    Raises:
        ConfigError: there is no such restraint, or its parameter is out of range.
    """
    try:
        return Restraint.parse(value)
    except ConfigError as error:
        raise ConfigError(f"{where}.restrain: {error}") from error


def _typed(hint: Any, value: Any, where: str) -> Any:
    """`value` as the field's type has it, as strictly as JSON: no text for a number."""
    try:
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"{where}: {said} (here: {value!r})") from error


def _records(choice: DatasetChoice, axes: list[Any], where: str) -> Records:
    said = None if choice.path is None else Path(choice.path)
    name, path = registry.locate(choice.name, said)
    source = Source(name, choice.split, None if path is None else str(path), choice.skip_bad)
    data = source.load(choice.limit)
    asked = tuple(asked_on(request, axes) for request in data.requests)
    return Records(source, replace(data, requests=asked), where)


def _told_apart(datasets: Sequence[Records]) -> tuple[Records, ...]:
    """The same; several files of one dataset have the file in their name, as `zsre@my_file`."""
    counts = Counter((records.data.name, records.data.split) for records in datasets)
    return tuple(
        _with_file(records) if counts[records.data.name, records.data.split] > 1 else records
        for records in datasets
    )


def _with_file(records: Records) -> Records:
    data, path = records.data, records.source.path
    if path is None:
        return records
    stem = Path(Path(path).name.removesuffix(".gz")).stem
    return replace(records, data=replace(data, name=f"{data.name}@{stem}"))


def _sources(editors: tuple[EditorUse, ...], datasets: tuple[Records, ...]) -> Iterator[Source]:
    for use, records in itertools.product(editors, datasets):
        for need in use.spec.requirements().values():
            if need.source is not None:
                try:
                    yield Source.of(need.source, records.source)
                except ConfigError as error:
                    raise ConfigError(f"{use.where} ({use.name}): {error}") from error
