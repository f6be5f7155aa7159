"""Which blocks an editor edits: named, where the field edits this family, or found by tracing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from editsweep.core.types import Corpus
from editsweep.errors import ConfigError
from editsweep.model.language_model import LanguageModel
from editsweep.model.traced import traced_layer

Chosen = int | tuple[int, ...] | Literal["auto"] | None

# The last edited block as a share of the depth, by what is published. One block: 17 of GPT-2 XL's
# 48, 5 of GPT-J's and Llama's 28 to 32 (arXiv 2202.05262; EasyEdit). Several: 13 to 17 of GPT-2 XL,
# 3 to 8 of GPT-J, 4 to 8 of Llama (arXiv 2210.07229; EasyEdit).
_ONE: Mapping[str, float] = {"gpt2": 17 / 48, "": 1 / 6}
_SEVERAL: Mapping[str, float] = {"gpt2": 17 / 48, "": 0.26}


@dataclass(frozen=True)
class Layers:
    """`chosen` are the blocks, or one; None is where the field edits this family; `auto` is traced.

    Where they are not named there are `count` of them, one after the other, or as many as there are
    before the last block.
    """

    chosen: Chosen = None
    count: int = 1

    def of(self, model: LanguageModel, corpus: Corpus) -> tuple[int, ...]:
        """The blocks of `model`, ascending; `corpus` is traced for `auto`.

        Raises:
            ConfigError: the model has no such block, or too few blocks, or nothing can be traced.
        """
        if isinstance(self.chosen, int):
            named: tuple[int, ...] = (self.chosen,)
        elif isinstance(self.chosen, tuple):
            named = self.chosen
        else:
            named = self._placed(model, corpus)
        if not named or list(named) != sorted(set(named)):
            raise ConfigError(f"layers {list(named)}: write each once, in ascending order")
        for layer in named:
            model.checked_layer(layer, 0)
        return named

    def _placed(self, model: LanguageModel, corpus: Corpus) -> tuple[int, ...]:
        # What the last block gives a token no other token sees: an edit there reaches no answer.
        count = max(1, min(self.count, model.depth - 1))
        if self.chosen == "auto":
            # The window around the block with the largest effect.
            last = traced_layer(model, corpus) + (count - 1) // 2
        else:
            places = _ONE if self.count == 1 else _SEVERAL
            last = round(places.get(model.family.name, places[""]) * model.depth)
        last = min(max(last, count - 1), max(model.depth - 2, 0))
        return tuple(range(last - count + 1, last + 1))
