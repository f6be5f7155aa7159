"""Free text as numbers; expected values are worked out by hand."""

from math import log, log2, sqrt

import pytest

from editsweep.metrics.text import consistency, is_one, ngram_entropy, normalised, repetition, says


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  The Eiffel-Tower, in PARIS! ", "eiffel tower in paris"),
        ("An apple", "apple"),
        ("ＡＢＣ１２", "abc12"),
        ("Straße", "strasse"),
        ("世界上最帅的人是李宏毅。", "世 界 上 最 帅 的 人 是 李 宏 毅"),
        ("it's 3.5 %", "it s 3 5"),
        ("", ""),
        ("...", ""),
    ],
)
def test_normalised(text, plain):
    assert normalised(text) == plain


def test_an_answer_is_contained_as_whole_words():
    assert says(" Paris, of course.", ["Lyon", "paris"])
    assert says("He is from the United States of America", ["United States"])
    assert not says("Parisian food", ["Paris"])
    assert not says("Paris", ["Paris, France"])
    assert says("那个人是李宏毅吧", ["李宏毅"])
    assert says("It is 7 now", ["7"])
    assert not says("Where is it?", ["IT"])  # the code of Italy
    assert says(" IT.", ["IT"])
    assert not says("Paris", ["", "..."])  # an alias that is nothing when normalised says nothing


def test_an_answer_is_all_that_is_said():
    assert is_one(" the Paris.", ["Paris"])
    assert not is_one("Paris, France", ["Paris"])
    assert not is_one("...", ["!"])


def test_entropy_of_a_text():
    # 2-grams: ab ba ab (2/3, 1/3); 3-grams: aba bab (1/2, 1/2).
    two = -(2 / 3 * log2(2 / 3) + 1 / 3 * log2(1 / 3))
    assert ngram_entropy("a b a b") == pytest.approx((2 / 3 * two + 4 / 3 * 1) / 2)
    assert ngram_entropy("no no no no no") == 0
    assert ngram_entropy("two words") is None
    assert ngram_entropy("春眠不觉晓") == pytest.approx((2 / 3 * 2 + 4 / 3 * log2(3)) / 2)


def test_repetition_of_a_text():
    assert repetition("a b c d e f") == 0
    assert repetition("a a a a a a") == pytest.approx(2 / 3)  # three 4-grams, one of them new
    assert repetition("a b c") is None


def test_consistency_of_a_text():
    refs = ["red fox", "red hen"]
    rare, common = log(3 / 2) + 1, log(3 / 3) + 1
    size = sqrt((2 * common) ** 2 + 2 * rare**2)
    assert consistency("Red, red!", refs) == pytest.approx(2 * common / size)
    assert consistency("red fox red hen", refs) == pytest.approx(1)
    assert consistency("blue", refs) == 0
    assert consistency("red", []) is None
