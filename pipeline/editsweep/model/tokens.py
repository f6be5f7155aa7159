"""Text to token ids. Joining prompt and answer is done here and nowhere else.

The joined text is tokenised as a whole and split by character offsets, so a merge across the seam
is seen as the model will see it: it belongs to the continuation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from editsweep.errors import EditError

# CJK punctuation, kana, ideographs, Hangul, full-width forms: written without spaces between words.
_CJK = (
    (0x2E80, 0x303F),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7AF),
    (0xF900, 0xFAFF),
    (0xFF00, 0xFFEF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a text; `ids[start:]` are the tokens that reach past a given character."""

    ids: tuple[int, ...]
    start: int


def is_cjk(char: str) -> bool:
    """Whether a character is of a script that is written without spaces between words."""
    return any(low <= ord(char) <= high for low, high in _CJK)


def join(prompt: str, continuation: str) -> str:
    """Prompt and continuation as one text.

    One space between them, none after whitespace or where either side of the seam is CJK.
    """
    if not prompt or not continuation or prompt[-1].isspace() or continuation[0].isspace():
        return prompt + continuation
    if is_cjk(prompt[-1]) or is_cjk(continuation[0]):
        return prompt + continuation
    return f"{prompt} {continuation}"


def encode(tokenizer: Any, texts: Sequence[str], cuts: Sequence[int]) -> list[Encoded]:
    """Each text's ids, split at the first token that reaches past character `cut`.

    Special tokens that the tokenizer puts in front stay; those behind the text are dropped.

    Raises:
        EditError: nothing lies past the cut, or no token stands before it.
    """
    if not texts:
        return []
    batch = tokenizer(
        list(texts), return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
    )
    made = []
    for text, cut, ids, spans, special in zip(
        texts,
        cuts,
        batch["input_ids"],
        batch["offset_mapping"],
        batch["special_tokens_mask"],
        strict=True,
    ):
        own = [i for i, mark in enumerate(special) if not mark or spans[i][1] > 0]
        start = next((i for i in own if spans[i][1] > cut), None)
        if start is None or start == 0:
            part = "continuation" if start is None else "prompt"
            raise EditError("no_tokens", f"the {part} has no tokens in {text!r} cut at {cut}")
        made.append(Encoded(tuple(ids[: own[-1] + 1]), start))
    return made


def last_token(tokenizer: Any, text: str, end: int) -> int:
    """Index of the last token of `text` that begins before character `end`.

    The place of the subject's last token, when `end` is where the subject ends.
    """
    batch = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
    )
    marks = zip(batch["offset_mapping"], batch["special_tokens_mask"], strict=True)
    return max(i for i, ((begin, _), special) in enumerate(marks) if begin < end and not special)


def token_range(tokenizer: Any, text: str, begin: int, end: int) -> range:
    """The tokens of `text` that hold any of its characters begin..end-1."""
    batch = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False
    )
    marks = zip(batch["offset_mapping"], batch["special_tokens_mask"], strict=True)
    held = [i for i, ((a, b), special) in enumerate(marks) if a < end and b > begin and not special]
    return range(held[0], held[-1] + 1) if held else range(0)
