"""Greedy text and seeded sampling, rows under a patch each."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from editsweep.model.language_model import LanguageModel
from editsweep.model.patch import Patch, applied
from editsweep.model.scoring import log_softmax

Choose = Callable[[Tensor], Tensor]


def greedy(
    model: LanguageModel, prompts: Sequence[str], patches: Sequence[Patch | None], new_tokens: int
) -> list[str]:
    """The most likely continuation of each prompt under its patch, up to the end of text.

    A patch's prefix is put in front of its prompt. The text keeps its leading space.
    """
    texts = [(patch.prefix if patch else "") + p for p, patch in zip(prompts, patches, strict=True)]
    ids = [model.tokenizer(text)["input_ids"] for text in texts]
    said: dict[int, str] = {}
    for rows in _by_length([len(i) + new_tokens for i in ids], model.token_budget):
        made = extend(
            model,
            [ids[i] for i in rows],
            [patches[i] for i in rows],
            new_tokens,
            lambda logp: logp.argmax(-1),
        )
        said |= {i: model.tokenizer.decode(tokens) for i, tokens in zip(rows, made, strict=True)}
    return [said[i] for i in range(len(prompts))]


def sample(
    model: LanguageModel, starts: Sequence[str], new_tokens: int, top_k: int, seed: int
) -> list[str]:
    """Each start continued by tokens drawn from the `top_k` most likely, start included."""
    dice = torch.Generator().manual_seed(seed)

    def draw(logp: Tensor) -> Tensor:
        best = logp.cpu().topk(top_k, -1)
        drawn = torch.multinomial(best.values.exp(), 1, generator=dice)
        return best.indices.gather(-1, drawn)[:, 0]

    ids = [model.tokenizer(start)["input_ids"] for start in starts]
    made = extend(model, ids, [None] * len(ids), new_tokens, draw)
    return [model.tokenizer.decode(i + m) for i, m in zip(ids, made, strict=True)]


@torch.no_grad()
def extend(
    model: LanguageModel,
    ids: Sequence[Sequence[int]],
    patches: Sequence[Patch | None],
    new_tokens: int,
    choose: Choose,
) -> list[list[int]]:
    """Token ids added to each row by `choose(log-probabilities [rows, vocabulary]) -> [rows]`.

    One batch, left-padded, with a cache; a row's ids stop before its end-of-text token.
    """
    width, end = max(len(row) for row in ids), model.tokenizer.eos_token_id
    tokens = torch.full((len(ids), width), model.tokenizer.pad_token_id)
    mask = torch.zeros(len(ids), width, dtype=torch.long)
    for i, row in enumerate(ids):
        tokens[i, width - len(row) :], mask[i, width - len(row) :] = torch.tensor(row), 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    cache, made = DynamicCache(), []
    with applied(model, patches):
        for _ in range(new_tokens):
            output = model.module.base_model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :],
                past_key_values=cache,
                use_cache=True,
            )
            tokens = choose(log_softmax(model, output.last_hidden_state[:, -1])).to(model.device)[
                :, None
            ]
            mask = torch.cat([mask, torch.ones_like(tokens)], 1)
            made.append(tokens.cpu())
            if bool((torch.cat(made, 1) == end).any(1).all()):
                break
    return [_before(row, end) for row in torch.cat(made, 1).tolist()]


def _before(row: list[int], end: int) -> list[int]:
    return row[: row.index(end)] if end in row else row


def _by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of like lengths together, each list within `budget` tokens or alone."""
    lists: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if not lists or (len(lists[-1]) + 1) * lengths[lists[-1][0]] > budget:
            lists.append([])
        lists[-1].append(index)
    return lists
