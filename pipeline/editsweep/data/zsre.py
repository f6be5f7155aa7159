"""zsRE in the structure of MEND, with the additions of later work, under either target.

De Cao et al. 2021 made of question answering by reading (Levy et al. 2017) a set of edits: a
question `src`, true `answers`, and in `alt` another answer. MEND, EasyEdit and WISE edit towards
`alt`; ROME's and MEMIT's loader takes `answers[0]` for the target, so that their edits go towards
the truth. The results of the two cannot be compared, and so they have names of their own: `zsre`
and `zsre-answers`.
"""

from collections.abc import Iterable
from functools import partial
from typing import Literal

from editsweep.core.types import EditRequest
from editsweep.data.fields import Problem, aliases, needed, optional
from editsweep.data.published import Published, Questions, Record, hop, old_target, template
from editsweep.data.reading import Note

_LOC_LEAD = "nq question:"


def edits(record: Record, note: Note, target: Literal["alt", "answers"]) -> Iterable[EditRequest]:
    """The edit of one record.

    `inverse question`, `portability` and the like are about what `alt` says, so they are asked
    only with that target.

    Raises:
        Problem: a field is missing, empty or of the wrong type.
    """
    subject, prompt = template(needed(record, "src"), needed(record, "subject"), note, "src")
    truth = aliases(record.get("answers"), "answers")
    if "answers" in record and not truth and target == "alt":
        note("answers", "no_answers", "there is no true answer; the edit has no old target")
    if target == "alt":
        new = needed(record, "alt")
        accepted: tuple[str, ...] = (new,)
        old = old_target(new, truth, note, "alt")
    else:
        if not truth:
            raise Problem("answers", "empty", "there is no true answer to edit towards")
        new, accepted, old = truth[0], truth, None
    asked = Questions(note)
    asked.ask("rephrase", "paraphrase", optional(record, "rephrase"), accepted, [old])
    asked.ask(
        "alter_subject_question",
        "portability",
        optional(record, "alter_subject_question"),
        accepted,
        [old],
        "alias",
    )
    if target == "alt":
        _implied(record, asked)
    unrelated = optional(record, "loc")
    asked.ask(
        "loc",
        "locality",
        unrelated and _question(unrelated),
        [optional(record, "loc_ans")],
        facet="unrelated",
    )
    relation = prompt if subject else ""
    return [EditRequest.of(subject, prompt, new, old, asked.probes.values(), relation)]


def _implied(record: Record, asked: Questions) -> None:
    """What follows from `alt`: the question back, and one step further."""
    back = optional(record, "inverse question")
    asked.ask("inverse question", "reverse", back, [needed(record, "subject")])
    hop(record, asked)


def _question(loc: str) -> str:
    """A question of Natural Questions, which a mark leads, with `?` in place of the mark."""
    text = loc.removeprefix(_LOC_LEAD).strip()
    return text if text in ("", loc) or text.endswith("?") else f"{text}?"


_SOURCE = "the files zsre_mend_*.json of MEND, ROME and EasyEdit"
_LICENCE = "MIT (MEND, ROME and EasyEdit, which carry it)"

ZSRE = Published(partial(edits, target="alt"), _SOURCE, _LICENCE)
ZSRE_ANSWERS = Published(partial(edits, target="answers"), _SOURCE, _LICENCE)
