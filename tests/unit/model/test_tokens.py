import pytest

from editsweep.errors import EditError
from editsweep.model.tiny import tiny_tokenizer
from editsweep.model.tokens import encode, join, last_token


@pytest.mark.parametrize(
    ("prompt", "continuation", "joined"),
    [
        ("The capital is", "Rome", "The capital is Rome"),
        ("The capital is ", "Rome", "The capital is Rome"),
        ("The capital is", " Rome", "The capital is Rome"),
        ("Answer:\n", "Rome", "Answer:\nRome"),
        ("全世界最帥的人是", "李宏毅", "全世界最帥的人是李宏毅"),
        ("The most handsome man is", "李宏毅", "The most handsome man is李宏毅"),
        ("全世界最帥的人是", "Lee", "全世界最帥的人是Lee"),
        ("", "Rome", "Rome"),
    ],
)
def test_join(prompt, continuation, joined):
    assert join(prompt, continuation) == joined


def test_encode_splits_at_the_seam():
    tokenizer = tiny_tokenizer()
    (made,) = encode(tokenizer, ["The capital is Rome"], [len("The capital is")])
    assert tokenizer.decode(made.ids[: made.start]) == "The capital is"
    assert tokenizer.decode(made.ids[made.start :]) == " Rome"


def test_a_token_across_the_seam_belongs_to_the_continuation():
    tokenizer = tiny_tokenizer()
    whole = tokenizer("The capital")["input_ids"]
    (made,) = encode(tokenizer, ["The capital"], [len("The cap")])
    assert made.ids == tuple(whole)
    assert "capital" in tokenizer.decode(made.ids[made.start :])


def test_a_character_of_several_tokens_stays_whole():
    tokenizer = tiny_tokenizer()
    assert len(tokenizer("毅")["input_ids"]) > 1
    (made,) = encode(tokenizer, ["他是李宏毅"], [len("他是李宏")])
    assert tokenizer.decode(made.ids[made.start :]) == "毅"


@pytest.mark.parametrize("cut", [0, 4])
def test_nothing_on_one_side_is_an_error(cut):
    with pytest.raises(EditError, match="no_tokens"):
        encode(tiny_tokenizer(), ["Rome"], [cut])


def test_no_texts():
    assert encode(tiny_tokenizer(), [], []) == []


def test_last_token_of_a_subject():
    tokenizer = tiny_tokenizer()
    text = "The Eiffel Tower is in Rome"
    place = last_token(tokenizer, text, len("The Eiffel Tower"))
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids[: place + 1]) == "The Eiffel Tower"
