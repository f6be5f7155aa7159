"""What is hidden, and what is left as it is."""

import pytest

from editsweep.core.scrub import scrubbed, scrubbed_json

CANARY = "canary/17+sings"


@pytest.mark.parametrize("name", ["HF_TOKEN", "my_api_key_2", "PGPASSWORD", "AWS_SECRET_ACCESS"])
def test_the_value_of_a_secret_variable_is_hidden(name, monkeypatch):
    monkeypatch.setenv(name, CANARY)
    assert scrubbed(f"no access with {CANARY}!") == "no access with [hidden]!"
    assert scrubbed("?t=canary%2F17%2Bsings") == "?t=[hidden]"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_AUTH_TOKEN_PATH", "folder/token-file"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("A", CANARY),
    ],
)
def test_what_is_no_secret_stays(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    assert scrubbed(f"it is {value}") == f"it is {value}"


def test_of_two_secrets_the_longer_is_hidden_whole(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "abcdefgh")
    monkeypatch.setenv("B_TOKEN", "abcdefgh-and-more")
    assert scrubbed("abcdefgh-and-more") == "[hidden]"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("to postgresql+psycopg://bob:pa@ss@db/x", "to postgresql+psycopg://db/x"),
        ("at 'http://bob@h:1' and a@b", "at 'http://h:1' and a@b"),
        ("see http://h/a@b", "see http://h/a@b"),
    ],
)
def test_a_url_loses_who_logs_in(text, left):
    assert scrubbed(text) == left


def test_texts_inside_of_json_are_scrubbed():
    said = {"a": ["http://u:p@h", 1, None, True], "b": {"c": 0.5}}
    assert scrubbed_json(said) == {"a": ["http://h", 1, None, True], "b": {"c": 0.5}}
