"""Which probes of an edit are asked, and the ones that every edit can be asked for its texts."""

from collections.abc import Collection
from dataclasses import replace

from editsweep.core.fixed_text import FIXED_TEXT
from editsweep.core.types import EditRequest, Probe, only_axes

FIXED = "fixed_text"
_FIRST, _REST = " ".join(FIXED_TEXT).split(" ", 1)


def asked_on(request: EditRequest, axes: Collection[str]) -> EditRequest:
    """The same edit, asked only on `axes`.

    On `fluency` that is also the perplexity of a fixed text, and where the edit has no beginnings
    of texts, one that begins with its own question.
    """
    kept = only_axes(request, axes)
    if "fluency" not in axes:
        return kept
    probes = list(kept.probes)
    if not any(probe.axis == "fluency" for probe in probes):
        probes.append(Probe.of("fluency", request.question))
    probes.append(Probe.of("fluency", _FIRST, [_REST], facet=FIXED))
    return replace(kept, probes=tuple(probes))
