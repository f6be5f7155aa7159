"""Which language a text is in, as far as its script says."""

import re

_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa\u30fc]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_HANGUL = re.compile("[\uac00-\ud7af]")
_WORD = re.compile(r"[^\W\d_]+")

ENGLISH = "en"


def language_of(text: str) -> str:
    """`zh`, `ja`, `ko`, or `en` for a text in any other script.

    A name in another script does not count for much: a text is Chinese, Japanese or Korean when more
    than half of its words are, where each character is a word, and of other scripts each run of
    letters. Chinese with a tenth of kana is Japanese.
    """
    kana, han, hangul = (len(script.findall(text)) for script in (_KANA, _HAN, _HANGUL))
    plain = text
    for script in (_KANA, _HAN, _HANGUL):
        plain = script.sub(" ", plain)
    if kana + han + hangul <= len(_WORD.findall(plain)):
        return ENGLISH
    if hangul > kana + han:
        return "ko"
    return "ja" if 10 * kana > han else "zh"
