"""Facts to trace: a prompt as tokens, where its subject stands, and what the model goes on with."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from editsweep.core.ids import content_id
from editsweep.core.types import EditRequest
from editsweep.errors import ConfigError, EditError
from editsweep.model.language_model import LanguageModel
from editsweep.model.scoring import final_hidden, log_softmax
from editsweep.model.tokens import encode, join, token_range
from editsweep.model.upper import TokenRows


@dataclass(frozen=True)
class Fact:
    """A prompt of T tokens `ids`; `span` are the places of its subject's tokens.

    `answer` is the token whose probability is traced, None for the one that the model prefers.
    """

    fact_id: str
    prompt: str
    subject: str
    ids: tuple[int, ...]
    span: range
    answer: int | None = None

    @classmethod
    def of(cls, model: LanguageModel, request: EditRequest) -> "Fact":
        """The question of an edit request.

        Raises:
            EditError: the request has no subject, or no token of its prompt belongs to it.
        """
        if request.subject is None:
            raise EditError("no_subject", "tracing corrupts a subject's tokens; this fact has none")
        text, begin = request.question, request.prompt.index("{}")
        span = token_range(model.tokenizer, text, begin, begin + len(request.subject))
        if not span:
            raise EditError("no_tokens", f"the subject has no tokens in {text!r}")
        ids = tuple(model.tokenizer(text, verbose=False)["input_ids"])
        limit = model.module.config.max_position_embeddings
        if len(ids) > limit:
            raise EditError("too_long", f"{len(ids)} tokens; {model.name} reads at most {limit}")
        key = content_id([request.subject, request.prompt])
        return cls(key, text, request.subject, ids, span)

    @property
    def roles(self) -> tuple[str, ...]:
        """What each token is to the subject; each has one role, its place in the subject first."""
        return tuple(self._role(token) for token in range(len(self.ids)))

    def _role(self, token: int) -> str:
        first, last = self.span[0], self.span[-1]
        if token <= last:
            inside = "first_subject" if token == first else "middle_subject"
            return "last_subject" if token == last else inside if token >= first else "before"
        if token == len(self.ids) - 1:
            return "last"
        return "first_after" if token == last + 1 else "further"


def subject_deviation(model: LanguageModel, subjects: Iterable[str]) -> float:
    """σ: the standard deviation of all entries of the embeddings of all tokens of `subjects`.

    Each is tokenised alone, without special tokens; one that occurs twice counts twice.

    Raises:
        ConfigError: there is no token to take it from.
    """
    told = list(subjects)
    batch = model.tokenizer(told, add_special_tokens=False, verbose=False) if told else {}
    ids = [token for row in batch.get("input_ids", ()) for token in row]
    if not ids:
        raise ConfigError("no subject to take the size of the noise from: give it with --sigma")
    with torch.no_grad():
        embedded = model.module.get_input_embeddings()(torch.tensor(ids, device=model.device))
    return float(embedded.float().std())


def known_facts(
    model: LanguageModel, requests: Iterable[EditRequest], every: bool = False
) -> Iterator[Fact | tuple[EditRequest, str]]:
    """For each request its fact, or the reason for which it cannot be traced.

    Taken are facts that the model knows: greedily it goes on with the first token of `target_true`.
    `every` takes the others too; what is traced then is whatever the model prefers.
    """
    batch: list[EditRequest] = []
    for request in requests:
        batch.append(request)
        if len(batch) == BATCH:
            yield from _sorted_out(model, batch, every)
            batch = []
    yield from _sorted_out(model, batch, every)


BATCH = 32


def _sorted_out(
    model: LanguageModel, requests: Sequence[EditRequest], every: bool
) -> Iterator[Fact | tuple[EditRequest, str]]:
    facts: dict[int, Fact] = {}
    why: dict[int, str] = {}
    for i, request in enumerate(requests):
        try:
            facts[i] = Fact.of(model, request)
        except EditError as error:
            why[i] = error.reason
    if not every:
        said = dict(zip(facts, next_tokens(model, [*facts.values()]), strict=True))
        for i, token in said.items():
            if reason := _unknown(model, requests[i], token):
                why[i] = reason
    for i, request in enumerate(requests):
        yield (request, why[i]) if i in why else facts[i]


def _unknown(model: LanguageModel, request: EditRequest, said: int) -> str:
    """Why the model does not know the fact if it goes on with token `said`; "" where it does."""
    if request.target_true is None:
        return "no known answer"
    text = join(request.question, request.target_true)
    (known,) = encode(model.tokenizer, [text], [len(request.question)])
    if known.ids[known.start] == said:
        return ""
    return "the model does not say the known answer"


@torch.no_grad()
def next_tokens(model: LanguageModel, facts: Sequence[Fact]) -> list[int]:
    """The token that the model prefers after each prompt, in passes within its token budget."""
    found: dict[int, int] = {}
    order = sorted(range(len(facts)), key=lambda i: len(facts[i].ids))
    while order:
        fits = max(1, model.token_budget // len(facts[order[-1]].ids))
        order, batch = order[:-fits], order[-fits:]
        rows = TokenRows.of(model, [facts[i].ids for i in batch])
        hidden = final_hidden(model, rows.ids, rows.positions, rows.sees)
        last = rows.real.sum(1) - 1
        chosen = hidden[torch.arange(len(batch), device=hidden.device), last]
        found |= dict(zip(batch, log_softmax(model, chosen).argmax(-1).tolist(), strict=True))
    return [found[i] for i in range(len(facts))]
