"""Languages told apart by script."""

import pytest

from editsweep.core.language import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The capital of France is", "en"),
        ("La capitale de la France est", "en"),
        ("Столица Франции —", "en"),
        ("Ada 王 lives in the city of", "en"),
        ("", "en"),
        ("1984 ?", "en"),
        ("全世界最帥的人是", "zh"),
        ("Ramalinaceae属于哪个科？", "zh"),
        ("创作了《呼叫医生》(Call the Doctor)的艺术家是谁？", "zh"),
        ("フランスの首都は", "ja"),
        ("東京都の県庁所在地の名前", "ja"),
        ("프랑스의 수도는", "ko"),
        ("BTS 멤버 RM의 本名은", "ko"),
    ],
)
def test_the_script_of_most_words_decides(text, language):
    assert language_of(text) == language
