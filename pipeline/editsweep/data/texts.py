"""True sentences out of edit requests, for statistics of text."""

from collections.abc import Iterable, Iterator

from editsweep.core.types import EditRequest
from editsweep.model.tokens import join


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
