from editsweep.core.conflicts import holding, superseded
from editsweep.core.types import EditRequest


def edit(subject, target, prompt="{} lives in", relation=""):
    return EditRequest.of(subject, prompt, target, relation=relation)


def test_the_last_edit_of_a_fact_holds():
    group = [edit("Ada", "Rome"), edit("Bao", "Rome"), edit("ADA", "Paris"), edit("Ada", "Oslo")]
    assert superseded(group) == {0: 3, 2: 3}


def test_the_same_target_is_no_conflict():
    assert superseded([edit("Ada", "Rome"), edit("ada", "Rome")]) == {}
    assert superseded([edit("Ada", "Rome"), edit("Ada", "Oslo"), edit("ada", "Rome")]) == {1: 2}


def test_a_relation_is_a_fact_under_any_prompt():
    one, other = (
        edit("Ada", "Rome", "{} lives in", "home"),
        edit("Ada", "Oslo", "{}'s town", "home"),
    )
    assert superseded([one, other]) == {0: 1}
    assert superseded([edit("Ada", "Rome"), edit("Ada", "Oslo", "{}'s town")]) == {}
    assert superseded([edit("Ada", "Rome", relation="a"), edit("Ada", "x", "{} b", "b")]) == {}


def test_without_a_subject_the_prompt_alone_is_the_fact():
    assert superseded([edit(None, "five", "2+2="), edit(None, "six", "2+2=")]) == {0: 1}
    assert superseded([edit(None, "a", "x", "r"), edit(None, "b", "y", "r")]) == {}


def test_what_holds_at_each_checkpoint():
    edits = [
        edit("Ada", "Rome"),
        edit("Bao", "Rome"),
        edit("Ada", "Oslo"),
        edit("Ada", "Rome", "{}"),
    ]
    edits += [edit("ada", "Rome")]
    assert list(holding(edits, [1, 0], [2, 3, 4, 5])) == [(0, 1), (1,), (1,), (0, 1)]
    assert list(holding(edits, [], [2])) == [()]
    assert list(holding(edits, [4], [2])) == [()]
