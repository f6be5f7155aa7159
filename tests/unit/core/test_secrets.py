"""What is a secret, and what is not."""

from editsweep.core.secrets import HIDDEN, scrubbed


def test_values_of_secret_variables_and_passwords_of_urls_are_hidden(monkeypatch):
    for name in ("HF_TOKEN", "aws_secret_access_key", "MLFLOW_TRACKING_PASSWORD", "MY_SECRET"):
        monkeypatch.setenv(name, f"canary-{name}")
        assert scrubbed(f"a canary-{name}, b") == f"a {HIDDEN}, b"
    assert scrubbed("at postgresql://me:hunter2@db/x and http://h:5000") == (
        "at postgresql://db/x and http://h:5000"
    )


def test_short_values_and_other_variables_stay(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "1")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/somewhere/token")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false-but-long")
    text = "1 /somewhere/token false-but-long a@b"
    assert scrubbed(text) == text
