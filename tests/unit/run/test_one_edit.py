import pytest

from editsweep.editors import EDITORS
from editsweep.errors import ConfigError
from editsweep.model.catalogue import resolve
from editsweep.model.load import load
from editsweep.run.one_edit import at_hand, derive, edit_once, parse_prompt
from editsweep.run.resolve import ModelUse, make_spec

USE = ModelUse(resolve("tiny-llama"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The capital of {France} is", ("France", "The capital of {} is")),
        ("{全世界最帥的人}是", ("全世界最帥的人", "{}是")),
        ("No subject here", (None, "No subject here")),
    ],
)
def test_braces_mark_the_subject(text, expected):
    assert parse_prompt(text) == expected


@pytest.mark.parametrize("text", ["{a} {b}", "{}", "{ }", "a {b", "{a} }", "{{a}}"])
def test_other_braces_are_refused(text):
    with pytest.raises(ConfigError, match="one pair of braces"):
        parse_prompt(text)


def test_probes_are_derived():
    request = derive("France", "The capital of {} is", "Berlin", "Paris")
    asked = {axis: [p.prompt for p in request.all_probes if p.axis == axis] for axis in AXES}
    assert asked["reliability"] == ["The capital of France is"]
    assert "Question: What is the capital of France? Answer:" in asked["paraphrase"]
    assert "As everybody knows, the capital of France is" in asked["paraphrase"]
    assert "The capital of Italy is" in asked["locality"]


def test_what_is_edited_is_not_asked_as_locality():
    request = derive("Italy", "The capital of {} is", "Tokyo", "Rome")
    prompts = [p.prompt for p in request.probes if p.axis == "locality"]
    assert prompts
    assert "The capital of Italy is" not in prompts
    assert "The capital of Japan is" not in prompts


AXES = ("reliability", "paraphrase", "locality")


def test_an_edit_before_and_after(tmp_path):
    spec = make_spec("rome", {"moment": "identity", "contexts": 0, "clamp": 50.0}, "x")
    found = edit_once(load("tiny-llama"), USE, spec, "{Lyon} is in", "Japan", cache=tmp_path)
    assert found.error == ""
    first = found.lines[0]
    assert first.p_wanted[1] > first.p_wanted[0]
    assert first.said[0] != first.said[1]
    assert found.text[0] != found.text[1]


def test_an_edit_that_cannot_be_done_says_why(tmp_path):
    spec = make_spec("rome", {"moment": "identity", "contexts": 0}, "x")
    found = edit_once(load("tiny-llama"), USE, spec, "Lyon is in", "Japan", cache=tmp_path)
    assert found.error.startswith("no_subject")
    assert found.lines[0].said[0] == found.lines[0].said[1]


def test_a_second_moment_that_is_not_there_is_stood_in_for(tmp_path):
    spec, swapped = at_hand(EDITORS.load("rome")(), USE, tmp_path)
    assert (spec.moment, swapped) == ("identity", True)
    for name in ("ft", "memit"):
        spec, swapped = at_hand(EDITORS.load(name)(), USE, tmp_path)
        assert (spec, swapped) == (EDITORS.load(name)(), False)
