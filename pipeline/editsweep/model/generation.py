"""Greedy text to its natural end, and seeded sampling; rows under a patch each."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from editsweep.model.language_model import LanguageModel
from editsweep.model.memory import in_halves, too_large
from editsweep.model.patch import Patch, applied
from editsweep.model.scoring import log_softmax

Choose = Callable[[Tensor, Sequence[int]], Tensor]
"""Next token ids [rows] from log-probabilities [rows, vocabulary] and the rows' places in the batch."""

Begin = Callable[[Sequence[int]], Choose]
"""What chooses for one batch, given the numbers of its rows; begun anew if that has to be halved."""

Ended = Callable[[list[int]], bool]
"""Whether a row that has said these ids is done, beyond having said the end of text."""

# The end of a line, or of a sentence that is not an initial's or an abbreviation's.
_STOP = re.compile(
    r"(?<=\S)\s*\n|(?<!\b[A-Z])(?<!\b(?:St|Dr|Mr|Ms|Jr|Sr|Mt|Ft|No|vs))(?<!\bMrs)[.!?](?=\s|$)|[。！？]"
)


def greedy(
    model: LanguageModel,
    prompts: Sequence[str],
    patches: Sequence[Patch | None],
    new_tokens: int,
    natural: bool = False,
) -> list[str]:
    """The most likely continuation of each prompt under its patch, up to the end of text.

    A patch's prefix is put in front of its prompt. The text keeps its leading space. With `natural`
    it ends where a person would take the answer to be over, with its first line or sentence.

    Raises:
        EditError: one text alone does not fit into memory.
    """

    def ended(made: list[int]) -> bool:
        text = model.tokenizer.decode(made)
        # A stop at the very end may yet go on, as in 3.5.
        return len(natural_part(text)) < len(text)

    texts = _spoken(
        model,
        prompts,
        patches,
        [new_tokens] * len(prompts),
        lambda _: _likeliest,
        ended if natural else None,
    )
    return [natural_part(text) for text in texts] if natural else texts


def natural_part(text: str) -> str:
    """`text` to the end of its first line that says something, or of its first sentence."""
    found = _STOP.search(text)
    if found is None:
        return text
    return text[: found.start()] if "\n" in found.group() else text[: found.end()]


def write(
    model: LanguageModel,
    prompts: Sequence[str],
    patches: Sequence[Patch | None],
    tokens: int,
    top_k: int,
    seeds: Sequence[int],
) -> list[str]:
    """A text of `tokens` tokens in all, from each prompt on, drawn from the `top_k` most likely.

    Each row has dice of its own, so it does not depend on the others. Returns what follows the
    prompt; a prompt that is longer is followed by one token.

    Raises:
        EditError: one text alone does not fit into memory.
    """

    def begin(rows: Sequence[int]) -> Choose:
        dice = [torch.Generator().manual_seed(seeds[row]) for row in rows]

        def draw(logp: Tensor, at: Sequence[int]) -> Tensor:
            best = logp.cpu().topk(top_k, -1)
            chances = best.values.exp()
            # A row without numbers (NaN) says one token again and again, as the greedy one does.
            chances[:, 0].nan_to_num_(1.0)
            chances.nan_to_num_(0.0)
            drawn = [
                torch.multinomial(row, 1, generator=dice[place])
                for place, row in zip(at, chances, strict=True)
            ]
            return best.indices.gather(-1, torch.stack(drawn))[:, 0]

        return draw

    own = [len(model.tokenizer(prompt)["input_ids"]) for prompt in prompts]
    return _spoken(model, prompts, patches, [max(1, tokens - n) for n in own], begin)


def sample(
    model: LanguageModel, starts: Sequence[str], new_tokens: int, top_k: int, seed: int
) -> list[str]:
    """Each start continued by tokens drawn from the `top_k` most likely, start included."""
    dice = torch.Generator().manual_seed(seed)

    def draw(logp: Tensor, _: Sequence[int]) -> Tensor:
        best = logp.cpu().topk(top_k, -1)
        drawn = torch.multinomial(best.values.exp(), 1, generator=dice)
        return best.indices.gather(-1, drawn)[:, 0]

    ids = [model.tokenizer(start)["input_ids"] for start in starts]
    made = extend(model, ids, [None] * len(ids), new_tokens, draw)
    return [model.tokenizer.decode(i + m) for i, m in zip(ids, made, strict=True)]


def _spoken(
    model: LanguageModel,
    prompts: Sequence[str],
    patches: Sequence[Patch | None],
    counts: Sequence[int],
    begin: Begin,
    ended: Ended | None = None,
) -> list[str]:
    """What follows each prompt under its patch, at most `counts` tokens of it."""
    texts = [(patch.prefix if patch else "") + p for p, patch in zip(prompts, patches, strict=True)]
    ids = [model.tokenizer(text)["input_ids"] for text in texts]

    def speak(rows: Sequence[int]) -> dict[int, str]:
        made = extend(
            model,
            [ids[i] for i in rows],
            [patches[i] for i in rows],
            max(counts[i] for i in rows),
            begin(rows),
            ended,
        )
        return {
            i: model.tokenizer.decode(tokens[: counts[i]])
            for i, tokens in zip(rows, made, strict=True)
        }

    def alone(row: int, told: str) -> dict[int, str]:
        raise too_large(f"a text of {len(ids[row]) + counts[row]} tokens", told)

    said: dict[int, str] = {}
    sizes = [len(row) + count for row, count in zip(ids, counts, strict=True)]
    for some in in_halves(_by_length(sizes, model.token_budget), speak, alone):
        said |= some
    return [said[i] for i in range(len(prompts))]


def _likeliest(logp: Tensor, _: Sequence[int]) -> Tensor:
    return logp.argmax(-1)


@torch.no_grad()
def extend(
    model: LanguageModel,
    ids: Sequence[Sequence[int]],
    patches: Sequence[Patch | None],
    new_tokens: int,
    choose: Choose,
    ended: Ended | None = None,
) -> list[list[int]]:
    """Token ids added to each row by `choose`.

    One batch, left-padded, with a cache; a row's ids stop before its end-of-text token. With `ended`
    rows that are done leave the batch, half of it at a time.
    """
    width, end = max(len(row) for row in ids), model.tokenizer.eos_token_id
    tokens = torch.full((len(ids), width), model.tokenizer.pad_token_id)
    mask = torch.zeros(len(ids), width, dtype=torch.long)
    for i, row in enumerate(ids):
        tokens[i, width - len(row) :], mask[i, width - len(row) :] = torch.tensor(row), 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    cache: Any = DynamicCache()
    made = [list[int]() for _ in ids]
    live = list(range(len(ids)))  # rows of the batch

    def going(row: int) -> bool:
        return end not in made[row] and not (ended and ended(made[row]))

    while live and len(made[live[0]]) < new_tokens:
        least = len(live) // 2 + 1 if ended else 1
        going_on = live
        with applied(model, [patches[i] for i in live]):
            while len(going_on) >= least and len(made[live[0]]) < new_tokens:
                output = model.module.base_model(
                    input_ids=tokens,
                    attention_mask=mask,
                    position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :],
                    past_key_values=cache,
                    use_cache=True,
                )
                logp = log_softmax(model, output.last_hidden_state[:, -1])
                tokens = choose(logp, live).to(model.device)[:, None]
                mask = torch.cat([mask, torch.ones_like(tokens)], 1)
                for place, token in zip(live, tokens[:, 0].tolist(), strict=True):
                    made[place].append(token)
                going_on = [row for row in live if going(row)]
        kept = [place for place, row in enumerate(live) if row in set(going_on)]
        live = going_on
        if live:
            for layer in cache.layers:  # each where its block lies
                layer.batch_select_indices(torch.tensor(kept, device=layer.keys.device))
            tokens, mask = tokens[kept], mask[kept]
    return [_before(row, end) for row in made]


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
