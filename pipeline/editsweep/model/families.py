"""Where the parts of a block lie, one row a family of architectures.

Every row was checked by running a random model of each of its types (`tests/unit/model`), so a new
row is a new line here and nothing anywhere else.
"""

from dataclasses import dataclass
from typing import Any, Literal

from editsweep.errors import ModelError


@dataclass(frozen=True)
class Family:
    """The names of the modules that editors touch.

    `blocks` is relative to the causal language model; `attention`, `mlp` and `mlp_out` (the MLP's
    output projection) are relative to one block. `transposed` says that linear weights lie as
    [d_in, d_out], as in GPT-2. `block_returns` says whether a block returns its hidden states bare
    or as the first of a tuple.
    """

    name: str
    model_types: tuple[str, ...]
    blocks: str
    attention: str
    mlp: str
    mlp_out: str
    transposed: bool = False
    block_returns: Literal["tensor", "tuple"] = "tensor"


FAMILIES = (
    Family(
        name="llama",
        model_types=("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
        blocks="model.layers",
        attention="self_attn",
        mlp="mlp",
        mlp_out="mlp.down_proj",
    ),
    Family(
        name="gpt2",
        model_types=("gpt2",),
        blocks="transformer.h",
        attention="attn",
        mlp="mlp",
        mlp_out="mlp.c_proj",
        transposed=True,
    ),
    Family(
        name="gpt-neox",
        model_types=("gpt_neox",),
        blocks="gpt_neox.layers",
        attention="attention",
        mlp="mlp",
        mlp_out="mlp.dense_4h_to_h",
    ),
    Family(
        name="gpt-j",
        model_types=("gptj",),
        blocks="transformer.h",
        attention="attn",
        mlp="mlp",
        mlp_out="mlp.fc_out",
        block_returns="tuple",
    ),
)


def family_of(config: Any) -> Family:
    """The family of a transformers configuration, by its `model_type`.

    Raises:
        ModelError: no row has this type; the message says how to add one.
    """
    wanted = getattr(config, "model_type", None)
    for family in FAMILIES:
        if wanted in family.model_types:
            return family
    known = ", ".join(sorted(t for family in FAMILIES for t in family.model_types))
    raise ModelError(
        f"no family for model type {wanted!r} (known: {known}); if its blocks look like those of a "
        "known type, add it to that row's `model_types` in editsweep/model/families.py, else add a "
        "row (docs/models.md shows how)"
    )
