"""How far edits have moved a model: its weights, and what it makes of a text that it has always read."""

import math
from dataclasses import dataclass

from editsweep.model.language_model import LanguageModel
from editsweep.model.packing import Query
from editsweep.model.patch import Patch
from editsweep.model.scoring import score
from editsweep.model.tokens import encode

# A model has collapsed when the fixed text's perplexity is more than so many times the unedited
# model's, or is not finite.
COLLAPSE = 10.0

FIXED_TEXT: tuple[str, ...] = (
    "Water freezes at zero degrees Celsius and boils at one hundred degrees at sea level.",
    "The Earth turns around its axis once a day and goes around the Sun once a year.",
    "Plants take in carbon dioxide and give off oxygen when light falls on their leaves.",
    "A week has seven days, and most months have thirty or thirty-one.",
    "Whales live in the sea, but they breathe air and feed their young with milk.",
    "Bread is made from flour, water, salt and yeast, and then baked in a hot oven.",
    "The heart pumps blood through the body, and the lungs bring oxygen into it.",
    "In winter the days are short and the nights are long, and in summer it is the other way round.",
    "A triangle has three sides, and the sum of its angles is one hundred and eighty degrees.",
    "Iron rusts when it is left in the rain, while gold keeps its colour for thousands of years.",
    "Bees visit flowers to gather nectar, from which they make honey in their hives.",
    "Rivers rise in the hills and carry sand and mud down to the sea.",
    "Sound travels faster through water than through air, and not at all where there is nothing.",
    "The Moon shines because it reflects the light of the Sun.",
    "People learn to read and write at school, and many go on reading for the rest of their lives.",
    "Paper was invented in China and reached Europe many centuries later.",
    "A doctor looks after people who are ill, and a teacher helps children to learn.",
    "Cats sleep for most of the day and hunt in the evening and early in the morning.",
    "Trains run on rails, ships sail across the sea, and aeroplanes fly high above the clouds.",
    "Two and two make four, and ten times ten makes a hundred.",
    "When the wind blows from the sea, it often brings rain to the coast.",
    "Glass is made by melting sand at a very high temperature and letting it cool.",
)


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
