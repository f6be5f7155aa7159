"""How far edits have moved a model: its weights, and what it makes of a text that it has always read."""

import math
from dataclasses import dataclass

from editsweep.core.fixed_text import FIXED_TEXT
from editsweep.model.language_model import LanguageModel
from editsweep.model.packing import Query
from editsweep.model.patch import Patch
from editsweep.model.scoring import score
from editsweep.model.tokens import encode

# A model has collapsed when the fixed text's perplexity is more than so many times the unedited
# model's, or is not finite.
COLLAPSE = 10.0


@dataclass(frozen=True, slots=True)
class Drift:
    """A model after some edits, beside the unedited one.

    `weight_norm` is the Frobenius norm of all changes together, `relative_norm` that over the norm
    of the matrices that they touch. `before` and `after` are perplexities of the fixed text,
    infinite where they are too large for a number or none.
    """

    weight_norm: float
    relative_norm: float
    before: float
    after: float

    @property
    def collapsed(self) -> bool:
        """Whether the perplexity is not finite, or more than `COLLAPSE` times what it was."""
        return not math.isfinite(self.after) or self.after > COLLAPSE * self.before


def drift(model: LanguageModel, patch: Patch) -> Drift:
    """How far `patch` moves the unedited `model`."""
    touched = (float(model.weight(name).double().norm()) for name in patch.adds)
    size = math.sqrt(sum(norm**2 for norm in touched))
    norm = patch.norm
    return Drift(norm, norm / size if size else 0.0, perplexity(model), perplexity(model, patch))


def perplexity(model: LanguageModel, patch: Patch | None = None) -> float:
    """exp of the mean negative log-likelihood a token of the fixed text; infinite if that is none.

    Each sentence is read on its own, from its second word on.
    """
    prefix = patch.prefix if patch else ""
    texts = [prefix + sentence for sentence in FIXED_TEXT]
    encoded = encode(model.tokenizer, texts, [len(prefix) + s.index(" ") for s in FIXED_TEXT])
    queries = [Query(0, e.ids, e.start) for e in encoded]
    scores = score(model, queries, [patch])
    logprobs = [value for one in scores for value in one.logprobs]
    try:
        found = math.exp(-sum(logprobs) / len(logprobs))
    except OverflowError:
        return math.inf
    return found if math.isfinite(found) else math.inf
