from editsweep.core.fixed_text import FIXED_TEXT
from editsweep.core.types import AXES, EditRequest, Probe
from editsweep.data.asked import FIXED, asked_on

BARE = EditRequest.of("Rome", "{} is in", "Spain", probes=[Probe.of("locality", "Lyon is in")])


def test_texts_are_asked_only_where_they_are_wanted():
    assert asked_on(BARE, AXES) == BARE
    assert asked_on(BARE, []).probes == ()


def test_every_edit_can_be_asked_for_a_text():
    asked = asked_on(BARE, [*AXES, "fluency"])
    assert asked.edit_id == BARE.edit_id
    kept, begun, fixed = asked.probes
    assert (kept, begun.prompt, begun.answers) == (BARE.probes[0], "Rome is in", ())
    assert fixed.facet == FIXED
    assert f"{fixed.prompt} {fixed.answers[0]}" == " ".join(FIXED_TEXT)


def test_beginnings_of_texts_of_its_own_are_taken():
    own = Probe.of("fluency", "In Rome people eat")
    request = EditRequest.of("Rome", "{} is in", "Spain", probes=[own])
    assert [p.prompt for p in asked_on(request, ["fluency"]).probes[:-1]] == [own.prompt]
