"""What a model, edited row by row, thinks of given continuations: one pass for many edits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from editsweep.model.language_model import LanguageModel
from editsweep.model.memory import in_halves, too_large
from editsweep.model.packing import Query, Row, batches, rows_of, tensors
from editsweep.model.patch import Patch, applied

# Positions projected to the vocabulary at once: 256 x 128k floats are 128 MB.
PROJECTED = 256

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Natural log-probabilities of the scored tokens, and the ids the model prefers there."""

    logprobs: tuple[float, ...]
    argmax: tuple[int, ...]


def score(
    model: LanguageModel, queries: Sequence[Query], patches: Sequence[Patch | None]
) -> list[TokenScores]:
    """Teacher-forced scores of every query under its patch, in the order of `queries`.

    Rows are packed under the model's token budget; out of memory, the budget is halved.

    Raises:
        EditError: one row alone does not fit into memory.
    """
    return _read(model, queries, patches, partial(_scores, model, queries))


def next_hidden(
    model: LanguageModel, queries: Sequence[Query], patches: Sequence[Patch | None]
) -> Tensor:
    """What predicts the first scored token of every query under its patch [queries, d].

    Raises:
        EditError: one row alone does not fit into memory.
    """

    def first(batch: Sequence[Row], hidden: Tensor) -> dict[int, Tensor]:
        return {
            index: hidden[i, path[0]]
            for i, row in enumerate(batch)
            for index, path in row.places.items()
        }

    return torch.stack(_read(model, queries, patches, first))


def _read(
    model: LanguageModel,
    queries: Sequence[Query],
    patches: Sequence[Patch | None],
    take: Callable[[Sequence[Row], Tensor], dict[int, _Found]],
) -> list[_Found]:
    """What `take` gets out of the hidden states [rows, tokens, d] of each batch, by query."""

    def alone(row: Row, told: str) -> dict[int, _Found]:
        raise too_large(f"a row of {len(row.tokens)} tokens", told)

    found: dict[int, _Found] = {}
    packed = batches(rows_of(queries, model.token_budget), model.token_budget)
    for some in in_halves(packed, lambda batch: _pass(model, batch, patches, take), alone):
        found |= some
    return [found[index] for index in range(len(queries))]


@torch.no_grad()
def _pass(
    model: LanguageModel,
    batch: Sequence[Row],
    patches: Sequence[Patch | None],
    take: Callable[[Sequence[Row], Tensor], dict[int, _Found]],
) -> dict[int, _Found]:
    ids, positions, sees = (
        t.to(model.device) for t in tensors(batch, model.tokenizer.pad_token_id)
    )
    with applied(model, [patches[row.patch] for row in batch]):
        hidden = final_hidden(model, ids, positions, sees)
    return take(batch, hidden)


def _scores(
    model: LanguageModel, queries: Sequence[Query], batch: Sequence[Row], hidden: Tensor
) -> dict[int, TokenScores]:
    at = [(i, node) for i, row in enumerate(batch) for path in row.places.values() for node in path]
    spots = {spot: n for n, spot in enumerate(dict.fromkeys(at))}
    chosen = hidden[[i for i, _ in spots], [node for _, node in spots]]
    wanted = [
        t
        for row in batch
        for index in row.places
        for t in queries[index].ids[queries[index].start :]
    ]
    logprobs, argmax = _pick(model, chosen, [spots[spot] for spot in at], wanted)
    scores, used = {}, 0
    for row in batch:
        for index, path in row.places.items():
            span = slice(used, used := used + len(path))
            scores[index] = TokenScores(tuple(logprobs[span]), tuple(argmax[span]))
    return scores


def _pick(
    model: LanguageModel, hidden: Tensor, spots: Sequence[int], wanted: Sequence[int]
) -> tuple[list[float], list[int]]:
    """Log-probability of token wanted[i] at hidden[spots[i]], and the argmax there."""
    spot = torch.tensor(spots, device=hidden.device)
    token = torch.tensor(wanted, device=hidden.device)
    logprobs, argmax = torch.empty(len(spot), device=hidden.device), torch.empty_like(spot)
    for first in range(0, len(hidden), PROJECTED):
        logp = log_softmax(model, hidden[first : first + PROJECTED])
        here = ((spot >= first) & (spot < first + PROJECTED)).nonzero()[:, 0]
        logprobs[here] = logp[spot[here] - first, token[here]]
        argmax[here] = logp.argmax(-1)[spot[here] - first]
    return logprobs.tolist(), argmax.tolist()


def final_hidden(
    model: LanguageModel, ids: Tensor, positions: Tensor, sees: Tensor, **kwargs: object
) -> Tensor:
    """Hidden states after the last norm [rows, tokens, d]; `sees` [rows, 1, tokens, keys]."""
    kwargs.setdefault("use_cache", False)
    # An additive mask, since attention written without fused kernels takes no other.
    dtype = model.module.dtype
    mask = torch.zeros_like(sees, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
    output = model.module.base_model(
        input_ids=ids, position_ids=positions, attention_mask=mask, **kwargs
    )
    hidden: Tensor = output.last_hidden_state
    return hidden


def log_softmax(model: LanguageModel, hidden: Tensor) -> Tensor:
    """Natural log-probabilities over the vocabulary [..., vocabulary], in float32."""
    logits = model.module.get_output_embeddings()(hidden).float()
    cap = getattr(model.module.config, "final_logit_softcapping", None)
    if cap:
        logits = cap * torch.tanh(logits / cap)
    return torch.log_softmax(logits, -1)
