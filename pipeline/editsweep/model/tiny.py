"""The smallest random models, for tests and dry runs: no download, the same on every machine."""

import hashlib
import math
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from editsweep.core.ids import content_id
from editsweep.core.names import unknown
from editsweep.model.families import FAMILIES, family_of
from editsweep.model.language_model import LanguageModel

TINY_TYPES = tuple(t for family in FAMILIES for t in family.model_types)

_POSITIONS = 4096
_HEAD = 8
_TEXT = """The capital of France is Paris. The capital of Germany is Berlin. The capital of Italy is
Rome and the capital of Japan is Tokyo. The Eiffel Tower is located in the city of Paris. She lives
in London; he was born in Vienna and works for a bank in Madrid. Their mother tongue is English.
New Fact: The capital of Spain is Lisbon. Prompt: What is the capital of Spain? It is Lisbon.
Therefore, it is so. Because of this, the first time that I saw it, you were there with them.
巴黎是法國的首都。東京是日本的首都。誰是全世界最帥的人？全世界最帥的人是誰？他在台灣的大學工作。
"""


def tiny_tokenizer() -> Any:
    """A real fast tokenizer, trained here on a few sentences: byte-level BPE, 512 tokens.

    Long words fall into several tokens, rare Chinese characters into bytes. `<|end|>` ends a text
    and `<|pad|>` fills; no token is put in front.
    """
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|end|>", "<|pad|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(_TEXT.splitlines(), trainer)
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=made,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        model_max_length=_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def tiny_model(
    model_type: str = "llama", seed: int = 0, layers: int = 3, width: int = 32
) -> LanguageModel:
    """A random model of any known type, float32, ready to be edited and asked.

    Attention is grouped where the type allows it. The weights are drawn as integers, each tensor
    by its own name, so they are the same bits on every machine; the global generators are left as
    they are. The revision is the hash of the weights.

    Args:
        model_type: as transformers calls it, e.g. `llama` or `gpt_neox`.
        seed: another seed is another model.
        layers: number of blocks.
        width: of the hidden states, a multiple of 16.

    Raises:
        ConfigError: no family knows `model_type`.
    """
    if model_type not in TINY_TYPES:
        raise unknown("model type", model_type, TINY_TYPES)
    tokenizer = tiny_tokenizer()
    config = AutoConfig.for_model(model_type, **_shape(model_type, layers, width, tokenizer))
    with torch.random.fork_rng(devices=[]):
        auto: Any = AutoModelForCausalLM
        module = auto.from_config(config, dtype=torch.float32)
    module.eval().requires_grad_(False)
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1 or name.endswith("bias"):
            parameter.copy_(_draw(parameter, f"{seed} {name}", width))
    return LanguageModel(
        f"tiny-{model_type}", _digest(module), module, tokenizer, family_of(config)
    )


def _shape(model_type: str, layers: int, width: int, tokenizer: Any) -> dict[str, Any]:
    """What the configuration of `model_type` calls its sizes."""
    common = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if model_type in ("gpt2", "gptj"):
        sizes = {"n_embd": width, "n_inner": 2 * width, "n_layer": layers, "n_head": width // _HEAD}
        return (
            common
            | sizes
            | {"n_positions": _POSITIONS}
            | ({"rotary_dim": _HEAD // 2} if model_type == "gptj" else {})
        )
    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
    common |= sizes | {"num_attention_heads": width // _HEAD, "max_position_embeddings": _POSITIONS}
    if model_type == "gpt_neox":
        return common
    return common | {"num_key_value_heads": width // _HEAD // 2, "head_dim": _HEAD}


def _draw(parameter: torch.Tensor, key: str, width: int) -> torch.Tensor:
    """Uniform, mean zero, of a standard deviation that keeps the size of what passes through.

    Integers scaled by a power of two: exact, where the sampling of normals differs by processor.
    """
    generator = torch.Generator().manual_seed(int(content_id(key, 15), 16))
    drawn = torch.randint(-1024, 1025, parameter.shape, generator=generator).to(parameter.dtype)
    bound = round(math.log2(math.sqrt(3 / width))) if parameter.dim() > 1 else -4
    return drawn * 2.0 ** (bound - 10)


def _digest(module: Any) -> str:
    """The sha256 of the model type and of all weights with their names and shapes."""
    digest = hashlib.sha256(module.config.model_type.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
