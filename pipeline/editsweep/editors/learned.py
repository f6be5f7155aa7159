"""What all trained editors share: a forward and a backward pass, then the network's answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from editsweep.core.types import EditRequest
from editsweep.editors.base import Asset, Edited
from editsweep.editors.groups import Ready, each, edit_groups
from editsweep.errors import EditError
from editsweep.learn.changes import patch_of
from editsweep.learn.examples import encode_edit
from editsweep.learn.network import Method, Network, Place, make_network, place_of
from editsweep.learn.signal import Signal
from editsweep.model.language_model import LanguageModel
from editsweep.model.tokens import Encoded
from editsweep.model.upper import Below

# Proposals of a chunk: rank = tokens, two factors a module, float32.
MEMORY_BYTES = 512 * 2**20


@dataclass(frozen=True)
class LearnedEditor:
    """Edits with a trained network; nothing is optimised at edit time."""

    model: LanguageModel
    network: Network
    place: Place
    below: Below

    @classmethod
    def of(cls, method: Method, model: LanguageModel, asset: Asset) -> "LearnedEditor":
        """The editor whose trained network is `asset`.

        Raises:
            ConfigError: the model has too few blocks.
        """
        network = make_network(method, model, seed=0)
        network.load_state_dict({n: t.to(model.device) for n, t in asset.tensors.items()})
        network.requires_grad_(False).eval()
        place = place_of(method, model)
        return cls(model, network, place, Below(model, place.first, memory_bytes=0))

    def edit(self, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Edited]:
        """One patch a group; `seed` is not used, nothing is drawn."""
        return edit_groups(groups, each(partial(encode_edit, self.model)), self._edit)

    def _edit(self, ready: Sequence[Sequence[Ready[Encoded]]]) -> list[Edited]:
        groups = [[edit for _, edit in group] for group in ready]
        return [edited for chunk in self._chunks(groups) for edited in self._proposed(chunk)]

    @torch.no_grad()
    def _proposed(self, groups: Sequence[Sequence[Encoded]]) -> list[Edited]:
        signal = Signal.of(self.below, self.place.modules, groups)
        proposals = self.network.propose(signal)
        patches = [patch_of(proposals, group) for group in range(len(groups))]
        return [
            Edited(patch) if patch.finite else Edited(error=EditError("not_finite", "it diverged"))
            for patch in patches
        ]

    def _chunks(self, groups: Sequence[Sequence[Encoded]]) -> Iterator[list[Sequence[Encoded]]]:
        """Groups whose proposals fit into memory together, at least one."""
        per_token = 4 * sum(d_out + d_in for d_out, d_in in self.place.shapes.values())
        chunk: list[Sequence[Encoded]] = []
        largest = 0
        for group in groups:
            size = len(group) * max(len(edit.ids) for edit in group)
            largest = max(largest, size)
            if chunk and (len(chunk) + 1) * largest * per_token > MEMORY_BYTES:
                yield chunk
                chunk, largest = [], size
            chunk.append(group)
        if chunk:
            yield chunk
