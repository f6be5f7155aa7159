"""What can be read off free text: whether it says an answer, how varied it is, what it is like."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from math import log, log2, sqrt

from editsweep.model.tokens import is_cjk

_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


def words(text: str) -> list[str]:
    """Words and punctuation marks in order; a script without spaces gives its characters."""
    return [
        part
        for found in _WORD.findall(text)
        for part in (found if any(map(is_cjk, found)) else [found])
    ]


def normalised(text: str) -> str:
    """`text` as answers are compared: NFKC, case folded, without punctuation and articles.

    SQuAD's normalisation (arXiv 1606.05250) for any script: words with one space between, and
    characters of scripts without spaces each as a word.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c if unicodedata.category(c)[0] not in "PS" else " " for c in plain)
    return " ".join(word for word in words(kept) if word not in _ARTICLES)


def says(said: str, answers: Iterable[str]) -> bool:
    """Whether `said` contains one of `answers`, both normalised, as whole words.

    One or two Latin letters (codes such as `IT`) are words of their own too often, so such an answer
    has to be all that is said.
    """
    text = normalised(said)
    wanted = (normalised(answer) for answer in answers)
    return any(text == one if _is_code(one) else f" {one} " in f" {text} " for one in wanted if one)


def _is_code(answer: str) -> bool:
    return len(answer) < 3 and answer.isascii() and answer.isalpha()


def is_one(said: str, answers: Iterable[str]) -> bool:
    """Whether `said` is one of `answers`, both normalised."""
    text = normalised(said)
    return bool(text) and any(text == normalised(answer) for answer in answers)


def ngram_entropy(text: str) -> float | None:
    """Weighted mean of the entropies of 2-grams (2/3) and 3-grams (4/3) over two, in bits.

    The generation entropy GE of ROME (arXiv 2202.05262, section 3.3), with `words` in place of
    NLTK's tokeniser. None for fewer than three words.
    """
    parts = words(text)
    if len(parts) < 3:
        return None
    return (2 / 3 * _entropy(parts, 2) + 4 / 3 * _entropy(parts, 3)) / 2


def repetition(text: str, n: int = 4) -> float | None:
    """Share of n-grams that were there before, seq-rep-n (arXiv 1908.04319, eq. 8).

    None for fewer than n words.
    """
    grams = _grams(words(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else None


def consistency(text: str, references: Sequence[str]) -> float | None:
    """Cosine of the TF-IDF vectors of `text` and of all `references` together (RS of ROME).

    The vocabulary is that of the references, and idf is ln((1 + n) / (1 + df)) + 1 over them, since
    the one that ROME fitted beforehand (arXiv 2202.05262, section 3.3) is not part of its data. So
    it compares editors on one dataset, and not with published figures. None without references.
    """
    seen = [Counter(words(reference.casefold())) for reference in references]
    if not any(seen):
        return None
    total = sum(seen, Counter[str]())
    idf = {w: log((1 + len(seen)) / (1 + sum(w in one for one in seen))) + 1 for w in total}
    mine = {w: n for w, n in Counter(words(text.casefold())).items() if w in idf}
    dot = sum(n * total[w] * idf[w] ** 2 for w, n in mine.items())
    size = _length(mine, idf) * _length(total, idf)
    return dot / size if size else 0.0


def _length(counts: dict[str, int] | Counter[str], idf: dict[str, float]) -> float:
    return sqrt(sum((n * idf[w]) ** 2 for w, n in counts.items()))


def _entropy(parts: Sequence[str], n: int) -> float:
    """Entropy in bits of the distribution of n-grams."""
    grams = Counter(_grams(parts, n))
    total = grams.total()
    return -sum(count / total * log2(count / total) for count in grams.values())


def _grams(parts: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(parts[i:] for i in range(n)), strict=False))
