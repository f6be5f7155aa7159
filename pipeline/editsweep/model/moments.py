"""The uncentred second moment C = E[k kᵀ] of what enters an MLP's output projection.

ROME and its family take from C what a direction is used for (arXiv 2202.05262, eq. 2; App. D).
About ten vectors a dimension are enough (arXiv 2506.04226); how far the estimate still moved is
measured and kept with it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from editsweep.core.ids import content_id
from editsweep.core.types import Corpus
from editsweep.errors import ConfigError
from editsweep.model.asset import Asset
from editsweep.model.hooks import only_blocks, reading
from editsweep.model.language_model import LanguageModel
from editsweep.model.layers import Layers
from editsweep.model.scoring import final_hidden
from editsweep.model.upper import TokenRows


@dataclass(frozen=True)
class SecondMoments:
    """C of some layers over the texts of `source`, at most `vectors` tokens (0: ten a dimension)."""

    source: str
    layers: Layers
    vectors: int = 0

    def make(self, model: LanguageModel, corpus: Corpus, work: Path | None = None) -> Asset:
        """`moment.<layer>` [d_mlp, d_mlp] float64; meta: layers, vectors, change at each doubling.

        Raises:
            ConfigError: the texts hold fewer than two vectors a dimension, or there is no such layer.
        """
        layers = self.layers.of(model, corpus)
        dim = model.weight(model.mlp_out(layers[0])).shape[1]
        wanted = self.vectors or 10 * dim
        # Neighbours in a source are alike; a part of it must stand for all of it.
        texts = sorted(corpus.texts, key=content_id)
        moments, count, moved = second_moments(model, layers, texts, wanted)
        if count < 2 * dim:
            raise ConfigError(
                f"{self.source!r} holds {count} tokens, too few for a second moment of {dim} "
                f"dimensions (about {10 * dim} are wanted, {2 * dim} needed): name a larger source"
            )
        meta = {"layers": list(layers), "vectors": count, "moved": moved}
        return Asset({f"moment.{layer}": c for layer, c in moments.items()}, meta)


@dataclass(frozen=True)
class ChosenLayers:
    """The layers alone, for an editor that needs no second moment."""

    source: str | None
    layers: Layers

    def make(self, model: LanguageModel, corpus: Corpus, work: Path | None = None) -> Asset:
        """Meta `layers`.

        Raises:
            ConfigError: there is no such layer.
        """
        return Asset(meta={"layers": list(self.layers.of(model, corpus))})


@torch.no_grad()
def second_moments(
    model: LanguageModel, layers: Sequence[int], texts: Sequence[str], vectors: int
) -> tuple[dict[int, Tensor], int, list[float]]:
    """C of each layer over every token of `texts`, each read alone, until `vectors` are seen.

    Returns:
        C [d_mlp, d_mlp] in float64 by layer, the number of vectors, and the largest
        ‖C₂ₙ − Cₙ‖/‖C₂ₙ‖ of a layer at each doubling.
    """
    dim = model.weight(model.mlp_out(layers[0])).shape[1]
    total = {
        layer: torch.zeros(dim, dim, dtype=torch.float64, device=model.device) for layer in layers
    }
    count, mark, moved = 0, max(1, vectors // 16), list[float]()
    before: dict[int, Tensor] = {}
    # At least sixteen batches, so that the doublings can be told apart.
    for rows in _batches(model, texts, min(model.token_budget, max(64, vectors // 16))):
        taken = 0
        for layer, seen in _keys(model, layers, rows).items():
            keys = seen[: vectors - count]
            total[layer] += (keys.T @ keys).double()
            taken = len(keys)
        count += taken
        if count >= mark:
            means = {layer: c / count for layer, c in total.items()}
            if before:
                moved.append(
                    max(float((c - before[n]).norm() / c.norm()) for n, c in means.items())
                )
            before, mark = means, 2 * count
        if count >= vectors:
            break
    return {layer: c / max(count, 1) for layer, c in total.items()}, count, moved


def _keys(
    model: LanguageModel, layers: Sequence[int], rows: Sequence[Sequence[int]]
) -> dict[int, Tensor]:
    """Inputs of each layer's MLP output projection at every token of `rows` [tokens, d_mlp]."""
    made = TokenRows.of(model, rows)
    seen: dict[int, Tensor] = {}
    with ExitStack() as held:
        for layer in layers:

            def keep(x: Tensor, _: Any, layer: int = layer) -> None:
                seen[layer] = x[made.real].float()

            held.enter_context(reading(model, model.mlp_out(layer), keep))
        held.enter_context(only_blocks(model, stop=max(layers) + 1))
        final_hidden(model, made.ids, made.positions, made.sees)
    return seen


def _batches(model: LanguageModel, texts: Sequence[str], budget: int) -> Iterator[list[list[int]]]:
    """Token ids of the texts, in order, as many a batch as `budget` holds, or one text."""
    batch: list[list[int]] = []
    limit = model.module.config.max_position_embeddings
    for text in texts:
        ids = model.tokenizer(text)["input_ids"][:limit]
        if not ids:
            continue
        width = max(len(ids), *(len(row) for row in batch), 0)
        if batch and (len(batch) + 1) * width > budget:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch
