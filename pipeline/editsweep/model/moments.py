"""The uncentred second moment C = E[k kᵀ] of what enters an MLP's output projection.

ROME and its family take from C what a direction is used for (arXiv 2202.05262, eq. 2; App. D).
About ten vectors a dimension are enough (arXiv 2506.04226); how far the estimate still moved is
measured and kept with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from editsweep.core.ids import content_id
from editsweep.core.types import Corpus
from editsweep.errors import ConfigError
from editsweep.model.asset import Asset
from editsweep.model.hooks import only_blocks, reading
from editsweep.model.language_model import LanguageModel
from editsweep.model.scoring import final_hidden
from editsweep.model.upper import TokenRows


@dataclass(frozen=True)
class SecondMoment:
    """C of one layer over the texts of `source`, at most `vectors` tokens (0: ten a dimension).

    `layer` None is the block at fraction `depth` of the model.
    """

    source: str
    layer: int | None
    depth: float = 0.0
    vectors: int = 0

    def make(self, model: LanguageModel, corpus: Corpus, work: Path | None = None) -> Asset:
        """`moment` [d_mlp, d_mlp] float64; meta: vectors, and the relative change at each doubling.

        Raises:
            ConfigError: the texts hold fewer than two vectors a dimension.
        """
        layer = model.checked_layer(self.layer, self.depth)
        dim = model.weight(model.mlp_out(layer)).shape[1]
        wanted = self.vectors or 10 * dim
        # Neighbours in a source are alike; a part of it must stand for all of it.
        texts = sorted(corpus.texts, key=content_id)
        moment, count, moved = second_moment(model, layer, texts, wanted)
        if count < 2 * dim:
            raise ConfigError(
                f"{self.source!r} holds {count} tokens, too few for a second moment of {dim} "
                f"dimensions (about {10 * dim} are wanted, {2 * dim} needed): name a larger source"
            )
        return Asset({"moment": moment}, {"vectors": count, "moved": moved})


@torch.no_grad()
def second_moment(
    model: LanguageModel, layer: int, texts: Sequence[str], vectors: int
) -> tuple[Tensor, int, list[float]]:
    """C over every token of `texts`, each read alone, until `vectors` are seen.

    Returns:
        C [d_mlp, d_mlp] in float64, the number of vectors, and ‖C₂ₙ − Cₙ‖/‖C₂ₙ‖ at each doubling.
    """
    name = model.mlp_out(layer)
    dim = model.weight(name).shape[1]
    total = torch.zeros(dim, dim, dtype=torch.float64, device=model.device)
    count, mark, before, moved = 0, max(1, vectors // 16), None, []
    # At least sixteen batches, so that the doublings can be told apart.
    for rows in _batches(model, texts, min(model.token_budget, max(64, vectors // 16))):
        keys = _keys(model, layer, rows)[: vectors - count]
        total += (keys.T @ keys).double()
        count += len(keys)
        if count >= mark:
            mean = total / count
            if before is not None:
                moved.append(float((mean - before).norm() / mean.norm()))
            before, mark = mean, 2 * count
        if count >= vectors:
            break
    return total / max(count, 1), count, moved


def _keys(model: LanguageModel, layer: int, rows: Sequence[Sequence[int]]) -> Tensor:
    """Inputs of the layer's MLP output projection at every token of `rows` [tokens, d_mlp]."""
    made = TokenRows.of(model, rows)
    seen: list[Tensor] = []
    with (
        reading(model, model.mlp_out(layer), lambda x, _: seen.append(x)),
        only_blocks(model, stop=layer + 1),
    ):
        final_hidden(model, made.ids, made.positions, made.sees)
    return seen[0][made.real].float()


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
