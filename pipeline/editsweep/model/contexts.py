"""Texts of the model's own that stand before a prompt, so that a key is more than one sentence's.

ROME averages the subject's key over such contexts (arXiv 2202.05262, eq. 3).
"""

from dataclasses import dataclass
from pathlib import Path

from editsweep.core.types import Corpus
from editsweep.model.asset import Asset
from editsweep.model.generation import sample
from editsweep.model.language_model import LanguageModel

# A new line first: a word that is the very first token makes some models write code or symbols.
STARTS = ("\nThe", "\nTherefore", "\nBecause", "\nI", "\nYou")
LENGTHS = (5, 10)
TOP_K = 5


@dataclass(frozen=True)
class Contexts:
    """`count` contexts drawn with `seed`, half of them of 5 tokens, half of 10."""

    count: int
    seed: int = 0
    source: None = None

    def make(self, model: LanguageModel, corpus: Corpus, work: Path | None = None) -> Asset:
        """Meta `templates`: each is "text. {}"; the bare "{}" is not among them."""
        half = self.count - self.count // 2
        drawn = []
        for length, count in zip(LENGTHS, (half, self.count // 2), strict=True):
            starts = [STARTS[i % len(STARTS)] for i in range(count)]
            if starts:
                drawn += sample(model, starts, length, TOP_K, self.seed * 1000 + length)
        return Asset(meta={"templates": [_template(text) for text in drawn]})


def _template(text: str) -> str:
    flat = " ".join(text.replace("{", " ").replace("}", " ").split())
    return f"{flat.rstrip('.')}. {{}}"
