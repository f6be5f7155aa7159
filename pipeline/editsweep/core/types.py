"""The values that an edit, a question and an answer are. Their names are the field's terms."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from editsweep.core.ids import content_id
from editsweep.errors import ConfigError

Axis = Literal[
    "reliability", "paraphrase", "reverse", "portability", "locality", "fluency", "consistency"
]
Role = Literal["answer", "unwanted", "reference", "text"]
Phase = Literal["pre", "post", "retained"]

# What is asked of a longer text that the model writes; nothing has to be answered there.
TEXT_AXES: tuple[Axis, ...] = ("fluency", "consistency")
AXES: tuple[Axis, ...] = tuple(axis for axis in get_args(Axis) if axis not in TEXT_AXES)


@dataclass(frozen=True, slots=True)
class Probe:
    """One question about an edit.

    `answers` are the accepted spellings; empty means "as the unedited model answers".
    `unwanted` are answers that must be less likely (the old object, or the new one for locality).
    On the axis `fluency` the prompt begins a text, or if there is an answer, that is read and not
    written; on `consistency` the answers are texts that the model's own is compared with.
    """

    probe_id: str
    axis: Axis
    facet: str
    prompt: str
    answers: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        axis: Axis,
        prompt: str,
        answers: Iterable[str] = (),
        unwanted: Iterable[str] = (),
        facet: str = "",
    ) -> "Probe":
        """A probe whose id is the hash of its content."""
        wanted, not_wanted = tuple(answers), tuple(unwanted)
        key = content_id([axis, facet, prompt, wanted, not_wanted], 16)
        return cls(key, axis, facet, prompt, wanted, not_wanted)


@dataclass(frozen=True, slots=True)
class EditRequest:
    """One fact to plant, and what to ask afterwards.

    `prompt` holds exactly one `{}` where `subject` belongs, or none when `subject` is None.
    `target_new` and `target_true` carry no leading space: `model/tokens.py` joins.
    """

    edit_id: str
    subject: str | None
    prompt: str
    target_new: str
    target_true: str | None = None
    probes: tuple[Probe, ...] = ()
    relation: str = ""

    @classmethod
    def of(
        cls,
        subject: str | None,
        prompt: str,
        target_new: str,
        target_true: str | None = None,
        probes: Iterable[Probe] = (),
        relation: str = "",
    ) -> "EditRequest":
        """A request whose id is the hash of its content."""
        asked = tuple(probes)
        key = content_id([subject, prompt, target_new, target_true, [p.probe_id for p in asked]])
        return cls(key, subject, prompt, target_new, target_true, asked, relation)

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

    `single`: each in a model of its own. `batch`: `size` at once in one model. `sequential`: all
    in one model, `size` a step, one step after another; it is measured after each `every` edits,
    which is a checkpoint, when `sample` of the earlier edits are asked again.
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
        """The edit jobs: what each group changes, it changes at once."""
        return [tuple(requests[i : i + self.size]) for i in range(0, len(requests), self.size)]

    def __str__(self) -> str:
        """`single`, `batch:n`, or `sequential:size/every` with the sample where it is not 100."""
        if self.kind == "single":
            return self.kind
        if self.kind == "batch":
            return f"batch:{self.size}"
        sample = "" if self.sample == 100 else f" sample={self.sample}"
        return f"sequential:{self.size}/{self.every}{sample}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def only_axes(request: EditRequest, axes: Iterable[str]) -> EditRequest:
    """The same edit, asked only on `axes` (reliability is always asked)."""
    kept = set(axes)
    return replace(request, probes=tuple(p for p in request.probes if p.axis in kept))
