"""How far a patch moves what the model would say next: the whole distribution, not only its top."""

from collections.abc import Sequence

import torch
from torch import Tensor

from editsweep.model.language_model import LanguageModel
from editsweep.model.packing import Query
from editsweep.model.patch import Patch
from editsweep.model.scoring import PROJECTED, log_softmax, next_hidden


@torch.no_grad()
def divergences(
    model: LanguageModel,
    prompts: Sequence[str],
    patch_of: Sequence[int],
    patches: Sequence[Patch | None],
) -> list[float]:
    """KL(unedited || edited) of the token after each prompt, in nats (arXiv 2305.17553, NKL).

    Args:
        model: the unedited model.
        prompts: what is read, by the edited model after its patch's prefix.
        patch_of: which patch each prompt is put to; one that is None gives 0.
        patches: the patches.

    Raises:
        EditError: one prompt alone does not fit into memory.
    """
    asked = [i for i, patch in enumerate(patch_of) if patches[patch] is not None]
    if not asked:
        return [0.0] * len(prompts)
    distinct = list(dict.fromkeys(prompts[i] for i in asked))
    row_of = {prompt: row for row, prompt in enumerate(distinct)}
    before = next_hidden(model, [_query(model, prompt, 0) for prompt in distinct], [None])
    after = next_hidden(
        model,
        [_query(model, _prefix(patches[patch_of[i]]) + prompts[i], patch_of[i]) for i in asked],
        patches,
    )
    same = before[[row_of[prompts[i]] for i in asked]]
    found = torch.cat(
        [
            _kl(log_softmax(model, p), log_softmax(model, q))
            for p, q in zip(same.split(PROJECTED), after.split(PROJECTED), strict=True)
        ]
    )
    by_index = dict(zip(asked, found.tolist(), strict=True))
    return [by_index.get(i, 0.0) for i in range(len(prompts))]


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of log-probabilities [rows, vocabulary]; rounding never makes it negative."""
    return (p.exp() * (p - q)).sum(-1).clamp(min=0)


def _query(model: LanguageModel, text: str, patch: int) -> Query:
    """`text` as it is read, with a token after it that is predicted and never looked at."""
    ids = tuple(model.tokenizer(text)["input_ids"])
    return Query(patch, (*ids, model.tokenizer.eos_token_id), len(ids))


def _prefix(patch: Patch | None) -> str:
    return patch.prefix if patch else ""
