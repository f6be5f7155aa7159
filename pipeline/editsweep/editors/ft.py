"""FT-M: fine-tuning one MLP output projection on the target's tokens, the prompt masked.

Cross entropy of each target token at its own place, as in EasyEdit's baseline. The objective that
reads all of them at the prompt's last token, with a clamp, is the editor `ft-l`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from editsweep.editors.base import Asset, Editor
from editsweep.editors.one_matrix import OneMatrix, OneMatrixSpec
from editsweep.model.language_model import LanguageModel


@dataclass(frozen=True)
class FtSpec(OneMatrixSpec):
    """Hyperparameters; `layer` None is 7/10 of the depth (21 of 30, the field's 21 of 28 to 32)."""

    name: ClassVar[str] = "ft"

    layer: int | None = None

    def build(self, model: LanguageModel, assets: Mapping[str, Asset]) -> Editor:
        """The editor for `model`.

        Raises:
            ConfigError: the model has no such layer.
        """
        layer = model.checked_layer(self.layer, 0.7)
        return OneMatrix(model, layer, "target", self.descent, self.clamp)
