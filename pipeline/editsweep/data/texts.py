"""Text to take statistics from: true sentences out of edit requests, or a file's lines."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from editsweep.core.types import EditRequest
from editsweep.errors import DataError
from editsweep.model.tokens import join


def read_texts(path: Path) -> tuple[str, ...]:
    """The lines of a plain text file that hold something, each a text of its own.

    Raises:
        DataError: the file is missing, is not UTF-8, or holds nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
    texts = tuple(line.strip() for line in lines if line.strip())
    if not texts:
        raise DataError(f"{path}: no line holds any text")
    return texts


def statements(requests: Iterable[EditRequest]) -> Iterator[str]:
    """What the requests say that is true, each sentence once, in order.

    These are the question with its old answer, and each locality probe with its first answer,
    with a space between as `join` puts it.
    """
    seen: set[str] = set()
    for request in requests:
        pairs = [] if request.target_true is None else [(request.question, request.target_true)]
        pairs += [
            (probe.prompt, probe.answers[0])
            for probe in request.probes
            if probe.axis == "locality" and probe.answers
        ]
        for prompt, answer in pairs:
            text = join(prompt, answer)
            if text not in seen:
                seen.add(text)
                yield text
