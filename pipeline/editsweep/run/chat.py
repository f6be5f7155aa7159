"""One question to an OpenAI-compatible server, patiently. The only file that imports requests."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import sleep
from typing import Any

import requests

from editsweep.errors import ConfigError

# Seconds before each further attempt; a server may ask for more, up to LONGEST_S.
WAITS_S = (1.0, 2.0, 4.0, 8.0)
LONGEST_S = 60.0
TIMEOUT_S = 120.0
REPLY_TOKENS = 16

# What no further question would mend, and what to look at.
_REFUSED = {
    401: "the key: it is read from EDITSWEEP_JUDGE_KEY",
    403: "the key, and what it may do: it is read from EDITSWEEP_JUDGE_KEY",
    404: "the address, which ends before /chat/completions, and the model's name",
}


@dataclass(frozen=True)
class Reply:
    """What the server said, or the `problem` in a word; `was_reached` if it said anything."""

    text: str = ""
    problem: str = ""
    was_reached: bool = True


class Chat:
    """A model behind `<url>/chat/completions`; may be asked from several threads."""

    def __init__(
        self, url: str, model: str, key: str = "", wait: Callable[[float], None] = sleep
    ) -> None:
        self._url = url.rstrip("/") + "/chat/completions"
        self._model = model
        self._key = key.strip()
        self._wait = wait
        self._local = threading.local()

    def ask(self, text: str) -> Reply:
        """The reply to one message, at temperature 0; tried five times where that may help.

        Raises:
            ConfigError: the server refuses the key, the model or the address.
        """
        reply, asked_for = self._once(text)
        for pause in WAITS_S:
            if asked_for is None:
                break
            self._wait(min(LONGEST_S, max(pause, asked_for)))
            reply, asked_for = self._once(text)
        return reply

    def _once(self, text: str) -> tuple[Reply, float | None]:
        """A reply, and None; or what went wrong, and how long to wait at least before the next."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": REPLY_TOKENS,
        }
        try:
            answer = self._session().post(
                self._url, json=body, timeout=TIMEOUT_S, allow_redirects=False
            )
        except requests.RequestException as error:
            is_slow = isinstance(error, requests.Timeout)
            return Reply(problem="timeout" if is_slow else "unreachable", was_reached=False), 0.0
        if look_at := _REFUSED.get(answer.status_code):
            raise ConfigError(
                f"the judge at {self._url} refuses with HTTP {answer.status_code}: look at {look_at}"
            )
        if answer.status_code == 429 or answer.status_code >= 500:
            return Reply(problem=f"http_{answer.status_code}"), _retry_after(answer)
        if answer.status_code != 200:
            return Reply(problem=f"http_{answer.status_code}"), None
        return _content(answer), None

    def _session(self) -> requests.Session:
        """One a thread: sessions are not made to be shared."""
        if not hasattr(self._local, "session"):
            made = requests.Session()
            # As a function, so that no .netrc replaces it and no redirect takes it along.
            made.auth = self._signed
            self._local.session = made
        session: requests.Session = self._local.session
        return session

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _retry_after(answer: requests.Response) -> float:
    try:
        return max(0.0, float(answer.headers.get("Retry-After", 0)))
    except ValueError:  # a date
        return 0.0


def _content(answer: requests.Response) -> Reply:
    try:
        found: Any = answer.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return Reply(problem="garbled")
    return Reply(found) if isinstance(found, str) else Reply(problem="garbled")
