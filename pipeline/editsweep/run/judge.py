"""A judge: another model, behind an OpenAI-compatible server, says whether an answer is right.

It is asked one thing at a time, may say yes or no, and what it says is kept by content, so that an
interrupted judging goes on and the same answer is never paid for twice.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from editsweep.core.ids import content_id
from editsweep.core.types import AXES, Answer, Measurement, Phase, Probe
from editsweep.errors import ConfigError, WorkerError
from editsweep.metrics.answers import Asked
from editsweep.run.chat import Chat, Reply

PROMPT = """\
A model was told to go on with a text. Decide whether what it wrote gives the wanted answer.

The text: {question}
The wanted answer, in any of these spellings: {answers}
What the model wrote: {said}

Other wording is fine, and so is more text behind the answer. It is wrong if the model gives \
another answer, several different ones, or none. Say only yes or no."""

# Answers that are put to the judge at once.
AT_ONCE = 8
# So many answers in a row without any reply: the server is not there.
UNREACHED = 8

_PLACES = ("question", "answers", "said")
_LEARNT = tuple(axis for axis in AXES if axis != "locality")
_OPEN, _UNCLEAR = "judge_", "unclear"
_VERDICTS = {"yes": 1.0, "no": 0.0}


@dataclass(frozen=True)
class JudgeSpec:
    """Who judges, and what it is asked; the key stands in no file and in no message.

    Raises:
        ConfigError: the URL is none, or has a key in it; or the prompt lacks one of its places.
    """

    url: str
    model: str
    prompt: str = PROMPT
    key: str = field(default="", repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "--judge: write the server's address up to its version, e.g. "
                "http://localhost:8000/v1"
            )
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ConfigError(
                "--judge: the URL holds a password or a query: leave them out, and put the key "
                "into the environment as EDITSWEEP_JUDGE_KEY"
            )
        if not self.model:
            raise ConfigError("--judge needs --judge-model: the model's name on that server")
        if absent := [name for name in _PLACES if f"{{{name}}}" not in self.prompt]:
            places = ", ".join(f"{{{name}}}" for name in absent)
            raise ConfigError(
                f"--judge-prompt: the text has no {places}; write it where it belongs"
            )

    @property
    def described(self) -> dict[str, str]:
        """What decides a verdict, for `plan.json`."""
        return {
            "url": self.url,
            "model": self.model,
            "prompt": self.prompt,
            "prompt_hash": content_id(self.prompt, 16),
        }


class Case(NamedTuple):
    """One text to be judged."""

    question: str
    answers: tuple[str, ...]
    said: str


class Judge:
    """Puts what was said to a judge; `folder` keeps its replies in `judged.jsonl`."""

    protocol = "judge"

    def __init__(self, spec: JudgeSpec, folder: Path) -> None:
        self.described: Mapping[str, str] = spec.described
        self._spec = spec
        self._path = folder / "judged.jsonl"
        self._chat = Chat(spec.url, spec.model, spec.key)
        self._kept: dict[str, Reply] | None = None

    def not_asked(self, slice_: Sequence[Asked], reason: str) -> Iterator[tuple[str, Measurement]]:
        """The rows that `measure` would have, null with the reason."""
        for edit_id, probe, phase, _ in _spoken(slice_):
            yield edit_id, _number(probe, phase, None, reason)

    def left_open(self, measurements: pa.Table) -> bool:
        """Whether a question came to nothing, which may go better now."""
        own = measurements.filter(pc.equal(measurements["protocol"], self.protocol))
        return any(status.startswith(_OPEN) for status in own["status"].unique().to_pylist())

    def measure(self, slice_: Sequence[Asked]) -> Iterator[tuple[str, Measurement]]:
        """A number for each text that was spoken freely on an axis that should be learnt.

        Raises:
            ConfigError: the server refuses the key, the model or the address.
            WorkerError: the server cannot be reached.
        """
        found = list(_spoken(slice_))
        replies = self._replies(dict.fromkeys(case for _, _, _, case in found))
        for edit_id, probe, phase, case in found:
            value, status = verdict(replies[case])
            yield edit_id, _number(probe, phase, value, status)
        for one in slice_:
            if one.after is None and _is_judged(one.probe, one.before):
                yield one.edit_id, _number(one.probe, "post", None, "edit_failed")

    def _replies(self, cases: Iterable[Case]) -> dict[Case, Reply]:
        if self._kept is None:
            self._kept = _read(self._path)
        wanted = {case: self._id(case) for case in cases}
        new = [case for case, key in wanted.items() if key not in self._kept]
        found = dict(self._asked(new)) if new else {}
        return {case: found.get(case) or self._kept[key] for case, key in wanted.items()}

    def _asked(self, cases: Sequence[Case]) -> Iterator[tuple[Case, Reply]]:
        """Ask some at a time; a reply is on disk before the next is looked at."""
        kept, unreached = self._kept or {}, 0
        pool = ThreadPoolExecutor(AT_ONCE, "editsweep-judge")
        try:
            with self._path.open("a", encoding="utf-8") as file:
                replies = pool.map(lambda case: self._chat.ask(self._filled(case)), cases)
                for case, reply in zip(cases, replies, strict=True):
                    unreached = 0 if reply.was_reached else unreached + 1
                    if unreached == UNREACHED:
                        raise WorkerError(
                            f"the judge at {self._spec.url} does not answer ({reply.problem}): see "
                            "to it and give the same command again; its replies so far are kept"
                        )
                    if not reply.problem:
                        kept[self._id(case)] = reply
                        file.write(json.dumps({"key": self._id(case), "text": reply.text}) + "\n")
                        file.flush()
                    yield case, reply
        finally:
            pool.shutdown(cancel_futures=True)

    def _id(self, case: Case) -> str:
        spec = self._spec
        return content_id([spec.url, spec.model, spec.prompt, list(case)])

    def _filled(self, case: Case) -> str:
        texts = {
            "question": case.question,
            "answers": "; ".join(case.answers),
            "said": case.said,
        }
        # In one pass, so that a place's name in what was said stays text.
        return re.sub(r"\{(question|answers|said)\}", lambda m: texts[m[1]], self._spec.prompt)


def verdict(reply: Reply) -> tuple[float | None, str]:
    """1 for yes, 0 for no, and a status; None and the reason for anything else."""
    if reply.problem:
        return None, f"{_OPEN}{reply.problem}"
    word = reply.text.strip(" \t\r\n.!\"'*`").lower()
    return (_VERDICTS[word], "ok") if word in _VERDICTS else (None, _UNCLEAR)


def judge_of(spec: JudgeSpec) -> Callable[[Path], Judge]:
    """What `rescore` makes a judge with, once it knows the folder."""
    return lambda folder: Judge(spec, folder)


def _spoken(slice_: Sequence[Asked]) -> Iterator[tuple[str, Probe, Phase, Case]]:
    for one in slice_:
        phases: tuple[tuple[Phase, Answer | None], ...] = (("pre", one.before), ("post", one.after))
        for phase, answer in phases:
            if answer is not None and _is_judged(one.probe, answer):
                case = Case(one.probe.prompt, one.probe.answers, answer.said)
                yield one.edit_id, one.probe, phase, case


def _is_judged(probe: Probe, answer: Answer) -> bool:
    return probe.axis in _LEARNT and bool(probe.answers) and answer.spoke


def _number(probe: Probe, phase: Phase, value: float | None, status: str) -> Measurement:
    return Measurement(
        probe.probe_id, probe.axis, probe.facet, "judge", Judge.protocol, phase, value, status
    )


def _read(path: Path) -> dict[str, Reply]:
    """The replies that are kept; a line that was cut by a crash is passed over."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    found = {}
    for line in lines:
        try:
            row = json.loads(line)
            found[row["key"]] = Reply(str(row["text"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found
