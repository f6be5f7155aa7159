"""IKE: say the new fact before the question, after demonstrations of how to use such a fact.

arXiv 2305.12740, section 3: of a corpus of facts the nearest to the edit are shown, each as one of
three kinds: copy (the fact's own prompt gets the new object), update (a paraphrase gets it), retain
(an unrelated prompt keeps its true object). Kinds stand in the ratio 1:3:4 in random order, the
nearest demonstration last, and then the edit's own copy. No weight changes.

All of it is in the language of the edit's prompt, the words around a fact too; the published ones are
English, which is for edits in English.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from editsweep.core.ids import content_id
from editsweep.core.language import ENGLISH, language_of
from editsweep.core.types import Corpus, EditRequest
from editsweep.editors.base import Asset, Edited, Editor, Requirement
from editsweep.editors.groups import Ready, each, edit_groups
from editsweep.errors import ConfigError, EditError
from editsweep.model.encoder import ENCODER_REVISION, Encoder, load_encoder
from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch
from editsweep.model.tokens import join

KINDS = ("copy", "update", "retain")


@dataclass(frozen=True)
class Wording:
    """What stands before the fact, and before the text that shows its use."""

    language: str
    fact: str
    prompt: str

    def asking(self, fact: str) -> str:
        """The fact, and the beginning of what is to be answered."""
        return f"{self.fact}{fact}\n{self.prompt}"

    def shown(self, fact: str, text: str) -> str:
        """One demonstration, whose `text` shows how `fact` is, or is not, to be used."""
        return f"{self.asking(fact)}{text}\n\n"


# By `core.language`; the English words are the published ones.
WORDINGS: Mapping[str, Wording] = {
    ENGLISH: Wording("English", "New Fact: ", "Prompt: "),
    "zh": Wording("Chinese", "新事实：", "提示："),
    "ja": Wording("Japanese", "新しい事実：", "プロンプト："),
    "ko": Wording("Korean", "새로운 사실: ", "프롬프트: "),
}


@dataclass(frozen=True)
class IkeSpec:
    """Hyperparameters; without demonstrations only the new fact itself is said.

    `ratio` is that of copy, update and retain demonstrations. They are looked for among the first
    `corpus_size` usable records of `corpus`, which is `name:split` or a path; "" is the train split
    of the cell's own dataset. A record is usable when it has a paraphrase, and a locality question
    with an answer, both in the language of its prompt.
    """

    name: ClassVar[str] = "ike"
    regimes: ClassVar[frozenset[str]] = frozenset({"single"})

    demonstrations: int = 32
    ratio: tuple[int, ...] = (1, 3, 4)
    corpus: str = ""
    corpus_size: int = 1000

    def __post_init__(self) -> None:
        """Refuse what cannot run; a list from a sweep file becomes a tuple."""
        object.__setattr__(self, "ratio", tuple(self.ratio))
        if self.demonstrations < 0:
            raise ConfigError(f"ike: demonstrations {self.demonstrations}: write 0 or more")
        if len(self.ratio) != len(KINDS) or min(self.ratio) < 0 or not any(self.ratio):
            raise ConfigError(
                f"ike: ratio {self.ratio}: write three numbers, of {', '.join(KINDS)}, none "
                "negative and not all zero"
            )
        if self.corpus_size < self.demonstrations:
            raise ConfigError(
                f"ike: corpus_size {self.corpus_size} is smaller than demonstrations "
                f"{self.demonstrations}"
            )

    def requirements(self) -> Mapping[str, Requirement]:
        """The index of demonstrations, if there are to be any."""
        if not self.demonstrations:
            return {}
        return {"index": DemonstrationIndex(self.corpus, self.corpus_size)}

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the corpus has fewer usable records than are to be shown.
        """
        if not self.demonstrations:
            return _Ike(self, model)
        records, vectors = assets["index"].meta["records"], assets["index"].tensors["vectors"]
        if len(records) < self.demonstrations:
            raise ConfigError(
                f"ike: {self.demonstrations} demonstrations are wanted, but the corpus "
                f"{self.corpus or 'train'!r} has {len(records)} usable records (each needs a "
                "paraphrase, and a locality question with an answer): lower `demonstrations` or "
                "name another `corpus`"
            )
        return _Ike(self, model, records, vectors, load_encoder(model.device))


@dataclass(frozen=True)
class DemonstrationIndex:
    """The first `size` usable records of `source`, with the vectors by which they are found.

    Tensor `vectors` [n, 384]; meta `records`: for each its `subject`, `question` and `language`, the
    `fact`, and the texts that may follow it as `update` and `retain`. `words` is the digest of what
    is said around them.
    """

    source: str
    size: int
    encoder: str = ENCODER_REVISION
    words: str = content_id([asdict(wording) for wording in WORDINGS.values()])

    def make(self, model: LanguageModel, corpus: Corpus, work: Path | None = None) -> Asset:
        """Make it; the language model has no part in it but for its device."""
        records = [r for request in corpus.requests if (r := _record(request))][: self.size]
        encoder = load_encoder(model.device)
        texts = [WORDINGS[r["language"]].shown(r["fact"], r["fact"]) for r in records]
        vectors = encoder.embed(texts)
        return Asset({"vectors": vectors}, {"records": records})


def _record(request: EditRequest) -> dict[str, Any] | None:
    """What of a request can be shown, None when it lacks a kind."""
    language = _language(request)
    probes = [p for p in request.probes if _spoken(p.prompt, request.subject) == language]
    update = [join(p.prompt, request.target_new) for p in probes if p.axis == "paraphrase"]
    retain = [join(p.prompt, p.answers[0]) for p in probes if p.axis == "locality" and p.answers]
    if not update or not retain:
        return None
    fact = join(request.question, request.target_new)
    named = {"subject": request.subject, "question": request.question, "language": language}
    return named | {"fact": fact, "copy": [fact], "update": update, "retain": retain}


def _language(request: EditRequest) -> str:
    """The language of the prompt."""
    return _spoken(request.question, request.subject)


def _spoken(text: str, subject: str | None) -> str:
    """The language of a text about `subject`, whose name may be in any."""
    return language_of(text.replace(subject, " ") if subject else text)


@dataclass(frozen=True)
class _Ike:
    spec: IkeSpec
    model: LanguageModel
    records: Sequence[Mapping[str, Any]] = ()
    vectors: Tensor | None = None
    encoder: Encoder | None = None

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One prefix a group of one request; `seed` draws the kinds and the texts shown."""
        prefixes = each(partial(self._prefix, seed=seed))
        return edit_groups(groups, prefixes, _said)

    def _prefix(self, request: EditRequest, seed: int) -> str:
        """What is said before every prompt.

        Raises:
            EditError: nothing is to be said, too few demonstrations are left, or no room is.
        """
        if not request.target_new.strip():
            raise EditError("no_target", "the new object is empty, there is no fact to tell")
        fact = join(request.question, request.target_new)
        shown = self._demonstrations(request, fact, seed) if self.spec.demonstrations else ""
        prefix = shown + WORDINGS[_language(request)].asking(fact)
        self._check_room(prefix + fact)
        return prefix

    def _demonstrations(self, request: EditRequest, fact: str, seed: int) -> str:
        draw = random.Random(content_id([seed, request.edit_id]))
        kinds = self._kinds()
        draw.shuffle(kinds)
        wording = WORDINGS[_language(request)]
        nearest = self._nearest(request, wording.shown(fact, fact))
        shown = [
            wording.shown(record["fact"], draw.choice(record[kind]))
            for record, kind in zip(nearest, kinds, strict=True)
        ]
        return "".join(reversed(shown)) + wording.shown(fact, fact)

    def _kinds(self) -> list[str]:
        """Each kind as often as the ratio says; what rounding leaves goes to the largest rest."""
        n, total = self.spec.demonstrations, sum(self.spec.ratio)
        counts = [n * share // total for share in self.spec.ratio]
        by_rest = sorted(range(len(KINDS)), key=lambda k: -(n * self.spec.ratio[k] % total))
        for k in by_rest[: n - sum(counts)]:
            counts[k] += 1
        return [kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count)]

    def _nearest(self, request: EditRequest, text: str) -> list[Mapping[str, Any]]:
        """The records nearest to `text` of the edit's language and about other subjects.

        Nearest first, equal ones by index.
        """
        assert self.encoder is not None
        assert self.vectors is not None
        # Alone, so that the numbers and thus the order do not depend on what else is edited.
        (query,) = self.encoder.embed([text])
        order = (self.vectors @ query).sort(descending=True, stable=True).indices.tolist()
        language = _language(request)
        others = [
            record
            for i in order
            if (record := self.records[i])["language"] == language and not _same(record, request)
        ]
        if len(others) < self.spec.demonstrations:
            raise EditError(
                "few_demonstrations",
                f"{self.spec.demonstrations} demonstrations are wanted, the corpus has {len(others)} "
                f"usable records in {WORDINGS[language].language} about another subject: name a "
                "`corpus` in the edit's language, or lower `demonstrations`",
            )
        return others[: self.spec.demonstrations]

    def _check_room(self, text: str) -> None:
        tokens = len(self.model.tokenizer(text, verbose=False)["input_ids"])
        room = self.model.module.config.max_position_embeddings
        if tokens > room:
            raise EditError(
                "too_long",
                f"the demonstrations need {tokens} tokens, {self.model.name} has room for {room}: "
                "lower `demonstrations`",
            )


def _said(ready: Sequence[Sequence[Ready[str]]]) -> list[Edited]:
    return [Edited(Patch(prefix=prefix)) for ((_, prefix),) in ready]


def _same(record: Mapping[str, Any], request: EditRequest) -> bool:
    """Whether a record is about the edit's own subject or asks the same."""
    if request.subject is not None and record["subject"] == request.subject:
        return True
    return bool(record["question"] == request.question)
