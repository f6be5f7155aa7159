"""The values that an edit, a question and an answer are. Their names are the field's terms."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, get_args

from editsweep.core.ids import content_id
from editsweep.errors import ConfigError

Axis = Literal[
    "reliability",
    "paraphrase",
    "reverse",
    "portability",
    "locality",
    "fluency",
    "consistency",
    "condition",
]
Role = Literal["answer", "unwanted", "reference", "text"]
Phase = Literal["pre", "post", "retained"]

# What is asked of a longer text that the model writes; nothing has to be answered there.
TEXT_AXES: tuple[Axis, ...] = ("fluency", "consistency")
# What other probes need the unedited model to know. It is asked with them, and never by itself.
CONDITION: Axis = "condition"
AXES: tuple[Axis, ...] = tuple(
    axis for axis in get_args(Axis) if axis not in (*TEXT_AXES, CONDITION)
)
# Facet of a question that only all edits of a case together answer; its wordings are probes each.
MULTI_HOP = "multi_hop"


@dataclass(frozen=True, slots=True)
class Probe:
    """One question about an edit.

    `answers` are the accepted spellings; empty means "as the unedited model answers".
    `unwanted` are answers that must be less likely (the old object, or the new one for locality).
    On the axis `fluency` the prompt begins a text, or if there is an answer, that is read and not
    written; on `consistency` the answers are texts that the model's own is compared with.
    `needs` are the ids of probes of the same edit, on the axis `condition`, that the unedited model
    must answer rightly for this one to count.
    """

    probe_id: str
    axis: Axis
    facet: str
    prompt: str
    answers: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        axis: Axis,
        prompt: str,
        answers: Iterable[str] = (),
        unwanted: Iterable[str] = (),
        facet: str = "",
        needs: Iterable[str] = (),
    ) -> "Probe":
        """A probe whose id is the hash of its content."""
        wanted, not_wanted, needed = tuple(answers), tuple(unwanted), tuple(needs)
        key = content_id([axis, facet, prompt, wanted, not_wanted, *_if_any(needed)], 16)
        return cls(key, axis, facet, prompt, wanted, not_wanted, needed)


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One fact to plant, and what to ask afterwards.

    `prompt` holds exactly one `{}` where `subject` belongs, or none when `subject` is None.
    `target_new` and `target_true` carry no leading space: `model/tokens.py` joins. Requests that
    follow each other and have the same `case` belong together: only with all of them in one model
    do the case's questions have their answers.
    """

    edit_id: str
    subject: str | None
    prompt: str
    target_new: str
    target_true: str | None = None
    probes: tuple[Probe, ...] = ()
    relation: str = ""
    case: str = ""

    @classmethod
    def of(
        cls,
        subject: str | None,
        prompt: str,
        target_new: str,
        target_true: str | None = None,
        probes: Iterable[Probe] = (),
        relation: str = "",
        case: str = "",
    ) -> "EditRequest":
        """A request whose id is the hash of its content."""
        asked = tuple(probes)
        ids = [probe.probe_id for probe in asked]
        key = content_id([subject, prompt, target_new, target_true, ids, *_if_any(case)])
        return cls(key, subject, prompt, target_new, target_true, asked, relation, case)

    @property
    def question(self) -> str:
        """The prompt with its subject in place."""
        return self.prompt if self.subject is None else self.prompt.replace("{}", self.subject)

    @property
    def all_probes(self) -> tuple[Probe, ...]:
        """The reliability probe, which every edit has, then the request's own."""
        old = () if self.target_true is None else (self.target_true,)
        return (Probe.of("reliability", self.question, (self.target_new,), old), *self.probes)


@dataclass(frozen=True, slots=True)
class Scored:
    """One continuation of a prompt under teacher forcing; all three tuples have its tokens' length.

    `logprobs` are natural logarithms, `argmax` the ids that the model would have said instead. A
    `text` is only compared with, so it has no tokens.
    """

    role: Role
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    argmax: tuple[int, ...]

    @property
    def exact(self) -> bool:
        """Whether greedy decoding would say exactly this."""
        return self.token_ids == self.argmax

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood a token."""
        return -sum(self.logprobs) / len(self.logprobs)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one probe: each continuation scored, and its own words in `said`.

    If it spoke freely (`spoke`) they are its text, else the argmax tokens of the first continuation.
    `kl` is how far its next-token distribution is from the unedited model's, KL(unedited || this)
    in nats; None where that was not asked.
    """

    probe_id: str
    scored: tuple[Scored, ...]
    said: str = ""
    spoke: bool = False
    kl: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number about one probe; `value` is None exactly when `status` is not `ok`."""

    probe_id: str
    axis: str
    facet: str
    metric: str
    protocol: str
    phase: Phase
    value: float | None
    status: str = "ok"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Data that something is made from: edit records, and true sentences as plain text."""

    requests: tuple[EditRequest, ...] = ()
    texts: tuple[str, ...] = ()


LARGEST_BATCH = 10_000
_REGIMES = "`single`, `batch: n` with n from 2 to 10000, or `sequential: {size, every, sample}`"


@dataclass(frozen=True, slots=True)
class Regime:
    """How edits share a model.

    `single`: each case in a model of its own, and so each edit that belongs to none. `batch`: `size`
    at once in one model. `sequential`: all in one model, `size` a step, one step after another; it
    is measured after each `every` edits, which is a checkpoint, when `sample` of the earlier edits
    are asked again.
    """

    kind: Literal["single", "batch", "sequential"] = "single"
    size: int = 1
    every: int = 0
    sample: int = 0

    @classmethod
    def parse(cls, value: Any) -> "Regime":
        """`single`, `{batch: n}` or `{sequential: {size: 1, every: 20, sample: 100}}`.

        Raises:
            ConfigError: anything else.
        """
        if isinstance(value, cls):
            return value
        if value == "single":
            return cls()
        if value == "sequential":
            return cls._sequence({})
        if isinstance(value, Mapping) and set(value) == {"batch"}:
            size = value["batch"]
            if _is_count(size) and 2 <= size <= LARGEST_BATCH:
                return cls("batch", size)
        if isinstance(value, Mapping) and set(value) == {"sequential"}:
            return cls._sequence(value["sequential"])
        raise ConfigError(f"regime {value!r}: write {_REGIMES}")

    @classmethod
    def _sequence(cls, value: Any) -> "Regime":
        chosen = {"size": 1, "every": 20, "sample": 100}
        if not isinstance(value, Mapping) or not set(value) <= set(chosen):
            raise ConfigError(f"regime sequential {value!r}: its keys are {', '.join(chosen)}")
        chosen |= value
        least = {"size": 1, "every": 1, "sample": 0}
        for name, count in chosen.items():
            if not _is_count(count) or count < least[name]:
                raise ConfigError(
                    f"regime sequential: {name} {count!r}: write a whole number of "
                    f"{least[name]} or more"
                )
        if chosen["every"] % chosen["size"]:
            raise ConfigError(
                f"regime sequential: every {chosen['every']} is not a multiple of size "
                f"{chosen['size']}: a checkpoint follows whole steps"
            )
        return cls("sequential", **chosen)

    @property
    def plain(self) -> str | dict[str, Any]:
        """As a sweep file has it; `parse` reads it."""
        if self.kind == "single":
            return "single"
        if self.kind == "batch":
            return {"batch": self.size}
        return {"sequential": {"size": self.size, "every": self.every, "sample": self.sample}}

    def groups(self, requests: Sequence[EditRequest]) -> list[tuple[EditRequest, ...]]:
        """The edit jobs: each group is one change of the model."""
        if self.kind == "single":
            return by_case(requests)
        return [tuple(requests[i : i + self.size]) for i in range(0, len(requests), self.size)]

    def __str__(self) -> str:
        """`single`, `batch:n`, or `sequential:size/every` with the sample where it is not 100."""
        if self.kind == "single":
            return self.kind
        if self.kind == "batch":
            return f"batch:{self.size}"
        sample = "" if self.sample == 100 else f" sample={self.sample}"
        return f"sequential:{self.size}/{self.every}{sample}"


def by_case(requests: Iterable[EditRequest]) -> list[tuple[EditRequest, ...]]:
    """Requests that belong together as one group each, the others alone; in order."""
    numbered = enumerate(requests)
    runs = groupby(numbered, lambda item: item[1].case or item[0])
    return [tuple(request for _, request in run) for _, run in runs]


def whole_cases(requests: Sequence[EditRequest], limit: int) -> Sequence[EditRequest]:
    """The first `limit` requests, and what is left of the case that the last of them is of."""
    stop = limit
    while stop < len(requests) and (case := requests[stop].case):
        if requests[stop - 1].case != case:
            break
        stop += 1
    return requests[:stop]


def _if_any(value: Any) -> list[Any]:
    """For ids, which a field that says nothing leaves as they were without it."""
    return [value] if value else []


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def only_axes(request: EditRequest, axes: Iterable[str]) -> EditRequest:
    """The same edit, asked only on `axes` and what that needs (reliability is always asked)."""
    kept = set(axes)
    needed = {need for p in request.probes if p.axis in kept for need in p.needs}
    probes = tuple(p for p in request.probes if p.axis in kept or p.probe_id in needed)
    return replace(request, probes=probes)
