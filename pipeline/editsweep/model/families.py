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

    `blocks` is relative to the causal language model; `attention`, `attention_in` (its projections
    of queries, keys and values, in that order, or the one that makes all three), `attention_out` (its
    output projection), `mlp`, `mlp_in` (the MLP's input projections) and `mlp_out` (its output projection)
    are relative to one block. `transposed` says that linear weights lie as [d_in, d_out], as in
    GPT-2. `block_returns` says whether a block returns its hidden states bare or as the first of a
    tuple. `final_norm` is what the last block's output goes through, relative to the causal
    language model; `mlp_norm` is a norm of the block through which the MLP's output goes before it
    is added to the residual stream, "" where there is none.
    """

    name: str
    model_types: tuple[str, ...]
    blocks: str
    attention: str
    attention_in: tuple[str, ...]
    attention_out: str
    mlp: str
    mlp_in: tuple[str, ...]
    mlp_out: str
    transposed: bool = False
    block_returns: Literal["tensor", "tuple"] = "tensor"
    final_norm: str = "model.norm"
    mlp_norm: str = ""


FAMILIES = (
    Family(
        name="llama",
        model_types=("llama", "mistral", "qwen2", "qwen3", "gemma"),
        blocks="model.layers",
        attention="self_attn",
        attention_in=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        attention_out="self_attn.o_proj",
        mlp="mlp",
        mlp_in=("mlp.gate_proj", "mlp.up_proj"),
        mlp_out="mlp.down_proj",
    ),
    Family(
        name="gemma",
        model_types=("gemma2", "gemma3_text"),
        blocks="model.layers",
        attention="self_attn",
        attention_in=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        attention_out="self_attn.o_proj",
        mlp="mlp",
        mlp_in=("mlp.gate_proj", "mlp.up_proj"),
        mlp_out="mlp.down_proj",
        mlp_norm="post_feedforward_layernorm",
    ),
    Family(
        name="gpt2",
        model_types=("gpt2",),
        blocks="transformer.h",
        attention="attn",
        attention_in=("attn.c_attn",),
        attention_out="attn.c_proj",
        mlp="mlp",
        mlp_in=("mlp.c_fc",),
        mlp_out="mlp.c_proj",
        transposed=True,
        final_norm="transformer.ln_f",
    ),
    Family(
        name="gpt-neox",
        model_types=("gpt_neox",),
        blocks="gpt_neox.layers",
        attention="attention",
        attention_in=("attention.query_key_value",),
        attention_out="attention.dense",
        mlp="mlp",
        mlp_in=("mlp.dense_h_to_4h",),
        mlp_out="mlp.dense_4h_to_h",
        final_norm="gpt_neox.final_layer_norm",
    ),
    Family(
        name="gpt-j",
        model_types=("gptj",),
        blocks="transformer.h",
        attention="attn",
        attention_in=("attn.q_proj", "attn.k_proj", "attn.v_proj"),
        attention_out="attn.out_proj",
        mlp="mlp",
        mlp_in=("mlp.fc_in",),
        mlp_out="mlp.fc_out",
        block_returns="tuple",
        final_norm="transformer.ln_f",
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
