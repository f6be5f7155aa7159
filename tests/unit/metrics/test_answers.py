"""Rows of the table `answers` say again what was asked and said."""

from editsweep.core.types import Probe
from editsweep.metrics.answers import asked, scored
from editsweep.metrics.suite import measure


def row(probe, role, text, **changes):
    is_read = role != "text"
    return {
        "edit_id": "e",
        "probe_id": probe.probe_id,
        "axis": probe.axis,
        "facet": probe.facet,
        "needs": list(probe.needs),
        "prompt": probe.prompt,
        "role": role,
        "text": text,
        "token_ids": [1, 2] * is_read,
        "pre_logprobs": [-2.0, -1.0] * is_read,
        "pre_argmax": [1, 9] * is_read,
        "pre_said": "one two",
        "pre_spoke": True,
        "pre_kl": 0.0,
        "post_logprobs": [-0.5, -0.25] * is_read,
        "post_argmax": [1, 2] * is_read,
        "post_said": "three",
        "post_spoke": True,
        "post_kl": 0.5,
        **changes,
    }


def test_answers_keep_their_order_and_their_roles():
    probe = Probe.of("locality", "Oslo is", ["b", "a"], ["c"], "near")
    rows = [row(probe, "answer", "b"), row(probe, "answer", "a"), row(probe, "unwanted", "c")]
    other = Probe.of("reliability", "Bergen is", ["x"])
    one, two = asked([*rows, row(other, "answer", "x")])
    assert (one.probe, two.probe) == (probe, other)
    assert [s.text for s in one.before.scored] == ["b", "a", "c"]
    assert (one.before.said, one.after.said, one.after.kl) == ("one two", "three", 0.5)
    assert (one.before.scored[0].exact, one.after.scored[0].exact) == (False, True)
    assert scored(rows[0], "post_") == one.after.scored[0]


def test_an_edit_that_failed_has_said_nothing_after():
    probe = Probe.of("reliability", "Oslo is", ["b"])
    lost = dict.fromkeys(("post_logprobs", "post_argmax", "post_said", "post_spoke", "post_kl"))
    (one,) = asked([row(probe, "answer", "b", **lost)])
    assert one.after is None
    assert one.before.spoke


def test_texts_to_compare_with_are_answers_that_were_not_read():
    probe = Probe.of("consistency", "Oslo", ["one two three", "four"])
    rows = [row(probe, "reference", "is")] + [row(probe, "text", text) for text in probe.answers]
    (one,) = asked(rows)
    assert one.probe == probe
    (number,) = measure(one.probe, one.before, one.after, "post")
    assert number.metric == "consistency"
    assert number.value > 0


def test_what_was_read_as_reference_is_no_answer():
    probe = Probe.of("locality", "Oslo is known for")
    (one,) = asked([row(probe, "reference", " its")])
    assert one.probe == probe
