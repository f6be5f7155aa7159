"""FT-L: fine-tuning one MLP output projection, its weights kept near the original.

After every step each weight is clamped to within ±ε of its original value (arXiv 2012.00363, the
L∞ constraint of section 3.2; as run in arXiv 2202.05262, section 3.1). The objective is the published
code's: the mean log-probability of all target tokens at the prompt's last position, which is right
for targets of one token only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from editsweep.editors.base import Asset, Editor
from editsweep.editors.one_matrix import OneMatrix, OneMatrixSpec
from editsweep.model.language_model import LanguageModel

# Published ε by family and depth: GPT-2 medium, large and XL, and GPT-J.
EPSILON: Mapping[tuple[str, int], float] = {
    ("gpt2", 24): 2e-3,
    ("gpt2", 36): 1e-3,
    ("gpt2", 48): 5e-4,
    ("gpt-j", 28): 5e-5,
}
ELSEWHERE = 5e-4


@dataclass(frozen=True)
class FtlSpec(OneMatrixSpec):
    """Hyperparameters; published is block 0 everywhere.

    `clamp` is ε; None is the published one for the model's family and depth, 5e-4 for all others.
    """

    name: ClassVar[str] = "ft-l"

    layer: int = 0

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layer.
        """
        published = EPSILON.get((model.family.name, model.depth), ELSEWHERE)
        clamp = published if self.clamp is None else self.clamp
        layer = model.checked_layer(self.layer, 0)
        return OneMatrix(model, layer, "prompt_last", self.descent, clamp)
