"""Causal tracing of a dataset's facts or of one prompt: a folder of tables and pictures, and MLflow.

Each fact is kept as soon as it is traced (`facts/<id>.arrow`), so the same command goes on after a
crash, and one with more facts traces only the new ones.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa

from editsweep import __version__
from editsweep.core import schema
from editsweep.core.ids import content_id
from editsweep.core.types import EditRequest
from editsweep.data.registry import open_source
from editsweep.errors import ConfigError, DataError
from editsweep.model.catalogue import ModelEntry
from editsweep.model.facts import Fact, known_facts, subject_deviation
from editsweep.model.language_model import LanguageModel
from editsweep.model.load import load
from editsweep.model.threads import threads
from editsweep.model.tracing import Trace, TraceSettings, sites, trace
from editsweep.report.trace_page import write_traces
from editsweep.report.trace_table import peaks, roles, summary
from editsweep.run import publish
from editsweep.run.drive import EXPERIMENT
from editsweep.run.one_edit import parse_prompt
from editsweep.run.progress import Progress, Silent, Snapshot
from editsweep.run.stop import interruptible
from editsweep.store.durable import replace_file
from editsweep.store.lock import exclusive
from editsweep.store.tracking import default_uri
from editsweep.store.tracking_one import OneRun

NAMED = 3


@dataclass(frozen=True)
class TraceJob:
    """What is traced: `prompt` alone, or at most `limit` facts of `data` that the model knows.

    `every` takes facts that it does not know too. Without `sigma` it is taken from the subjects of
    all of `data`, also for a single prompt.
    """

    model: ModelEntry
    data: str = "world:test"
    prompt: EditRequest | None = None
    limit: int | None = None
    every: bool = False
    skip_bad: bool = False
    sigma: float | None = None
    settings: TraceSettings = field(default_factory=TraceSettings)

    @property
    def source(self) -> str:
        """What is traced, in a word."""
        return self.data if self.prompt is None else "one prompt"


@dataclass(frozen=True)
class TraceOptions:
    """Where a tracing goes; nothing here changes its numbers.

    `pictures` facts get a heat map. Without a `tracking_uri` MLflow's file lies beside `out`.
    """

    out: Path = Path("runs/trace")
    pictures: int = 20
    threads: int | None = None
    record: bool = True
    tracking_uri: str | None = None
    experiment: str = EXPERIMENT


@dataclass(frozen=True)
class TraceResult:
    """What came of it; `found` of the facts were there already, `left_out` counts reasons."""

    folder: Path
    sigma: float
    found: int
    left_out: Mapping[str, int]
    summary: Mapping[str, float]
    peaks: Sequence[Mapping[str, Any]]
    seconds: float
    record_error: str


def one_prompt(text: str, subject: str | None) -> EditRequest:
    """`The {Space Needle} is in`, or the text and its subject, as a request.

    Raises:
        ConfigError: there is no subject, or it does not stand in the text.
    """
    if subject is None:
        named, prompt = parse_prompt(text)
        if named is None:
            raise ConfigError(f"{text!r}: put its subject in braces, or name it with --subject")
        return EditRequest.of(named, prompt, "")
    if not subject.strip() or subject not in text or {"{", "}"} & set(text):
        raise ConfigError(
            f"--subject {subject!r} does not stand in {text!r}: write it as the prompt does, "
            "without braces"
        )
    return EditRequest.of(subject, text.replace(subject, "{}", 1), "")


def run_trace(
    job: TraceJob, options: TraceOptions | None = None, progress: Progress | None = None
) -> TraceResult:
    """Trace what is not there yet, then write tables, pictures and the page anew, and record.

    Raises:
        ConfigError: a name is wrong, or the folder holds another tracing.
        DataError: records are bad, or none of them can be traced.
        ModelError: the model cannot be loaded.
        StoreError: another process traces into the folder.
    """
    chosen = options or TraceOptions()
    with threads(chosen.threads):
        return _run_trace(job, chosen, progress or Silent())


def _run_trace(job: TraceJob, chosen: TraceOptions, shown: Progress) -> TraceResult:
    requests = _requests(job)
    model = load(job.model)
    sigma = job.sigma or subject_deviation(model, [r.subject for r in requests if r.subject])
    folder, started = chosen.out, monotonic()
    (folder / "facts").mkdir(parents=True, exist_ok=True)
    with exclusive(folder / "lock"), interruptible():
        about = _bind(folder, job, model, sigma)
        facts, left_out = _facts(job, model, requests, shown)
        todo = [fact for fact in facts if _kept(folder, fact) is None]
        if len(todo) < len(facts):
            shown.say(f"{len(facts) - len(todo)} of {len(facts)} facts were traced before.")
        _trace(model, todo, job.settings, sigma, folder, shown)
        tables = [_kept(folder, fact) for fact in facts]
        traces = pa.concat_tables([table for table in tables if table is not None])
        files = write_traces(folder, traces, about | {"data": job.source}, chosen.pictures)
        seconds = monotonic() - started
        error = _record(job, about, facts, traces, files, chosen, shown)
    return TraceResult(
        folder,
        sigma,
        len(facts) - len(todo),
        left_out,
        summary(traces),
        peaks(roles(traces)),
        seconds,
        error,
    )


def _requests(job: TraceJob) -> Sequence[EditRequest]:
    """All of the data, which are also read for σ; nothing where σ is given for one prompt."""
    if job.prompt is not None and job.sigma is not None:
        return ()
    return open_source(job.data, skip_bad=job.skip_bad).requests


def _bind(folder: Path, job: TraceJob, model: LanguageModel, sigma: float) -> dict[str, Any]:
    """What decides every number of the folder; kept in `trace.json`."""
    about = {
        "model": model.name,
        "revision": model.revision,
        "dtype": str(model.module.dtype).removeprefix("torch."),
        "sigma": sigma,
        **asdict(job.settings),
        "kinds": list(job.settings.kinds),
    }
    path = folder / "trace.json"
    if not path.exists():
        replace_file(path, json.dumps(about, indent=1).encode())
    before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, value in about.items():
        if before.get(name) != value:
            raise ConfigError(
                f"{folder} holds a tracing with {name} {before.get(name)!r}, and this one has "
                f"{value!r}: choose another --out"
            )
    return about


def _facts(
    job: TraceJob, model: LanguageModel, requests: Sequence[EditRequest], progress: Progress
) -> tuple[list[Fact], dict[str, int]]:
    """The facts to trace, each once; how many were left out, by reason."""
    if job.prompt is not None:
        found: Iterator[Fact | tuple[EditRequest, str]] = known_facts(model, [job.prompt], True)
    else:
        progress.say(f"Looking which facts of {job.data} {model.name} knows ...")
        found = known_facts(model, requests, job.every)
    facts: dict[str, Fact] = {}
    left_out: Counter[str] = Counter()
    for entry in found:
        if isinstance(entry, Fact):
            facts.setdefault(entry.fact_id, entry)
        else:
            left_out[entry[1]] += 1
        if len(facts) == job.limit:
            break
    for reason, count in left_out.most_common(NAMED):
        progress.say(f"Left out: {count} ({reason}).")
    if not facts:
        reasons = "; ".join(f"{reason} ({n})" for reason, n in left_out.most_common(NAMED))
        raise DataError(
            f"no fact of {job.source} can be traced: {reasons}; --all takes unknown ones"
        )
    return [*facts.values()], dict(left_out)


def _trace(
    model: LanguageModel,
    facts: Sequence[Fact],
    settings: TraceSettings,
    sigma: float,
    folder: Path,
    progress: Progress,
) -> None:
    total = sum(sites(model, fact, settings) for fact in facts)
    started, done, kept = monotonic(), 0, 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        doing = f"{kept} of {len(facts)} facts"
        progress.update(Snapshot(done, total, done, monotonic() - started, 0, doing, "sites"))

    for made in trace(model, facts, settings, sigma, report=report):
        data = schema.to_ipc(schema.table(schema.TRACES, rows(model, made)))
        replace_file(_place(folder, made.fact), data)
        kept += 1


def rows(model: LanguageModel, made: Trace) -> Iterator[dict[str, Any]]:
    """One trace as rows of `schema.TRACES`."""
    names = [model.tokenizer.decode([token]) for token in made.fact.ids]
    fact = {
        "fact_id": made.fact.fact_id,
        "prompt": made.fact.prompt,
        "subject": made.fact.subject,
        "answer": model.tokenizer.decode([made.answer]),
        "low": made.low,
        "clean": made.clean,
    }
    for kind, table in made.restored.items():
        for token, line in zip(made.tokens, table.tolist(), strict=True):
            where = {"kind": kind, "token_index": token, "token": names[token]}
            where["role"] = made.fact.roles[token]
            for layer, chance in enumerate(line):
                value = {"layer": layer, "probability": chance, "effect": chance - made.low}
                yield {**fact, **where, **value}


def _place(folder: Path, fact: Fact) -> Path:
    return folder / "facts" / f"{fact.fact_id}.arrow"


def _kept(folder: Path, fact: Fact) -> pa.Table | None:
    """The fact's table, or None when it is not there or damaged."""
    try:
        return schema.from_ipc(_place(folder, fact).read_bytes())
    except (FileNotFoundError, pa.ArrowInvalid):
        return None


def _record(
    job: TraceJob,
    about: Mapping[str, Any],
    facts: Sequence[Fact],
    traces: pa.Table,
    files: Sequence[str],
    options: TraceOptions,
    progress: Progress,
) -> str:
    """Record the tracing in MLflow; why that could not be, or nothing."""
    if not options.record:
        return ""
    effects = roles(traces).to_pylist()
    made = OneRun(
        kind="trace",
        key=content_id([dict(about), [fact.fact_id for fact in facts]]),
        name=options.out.name,
        tags={"model": job.model.name, "dataset": job.source, "code": __version__},
        params={"model": job.model.name, "source": job.source, **about},
        points=[
            *((name, value, 0) for name, value in summary(traces).items()),
            *((f"effect.{r['kind']}.{r['role']}", r["effect"], r["layer"]) for r in effects),
        ],
        folder=options.out,
        files=files,
    )
    uri = options.tracking_uri or default_uri(options.out)
    reason = publish.record_one(made, uri, options.experiment).reason
    if reason:
        progress.say(f"Not recorded in MLflow ({reason}); the same command tries again.")
    return reason
