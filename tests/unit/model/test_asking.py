from editsweep.core.types import Probe
from editsweep.model.asking import AskSettings, Question, ask, references
from editsweep.model.patch import Patch
from editsweep.model.tiny import tiny_model

SILENT = AskSettings(generate=())
PROBE = Probe.of("paraphrase", "The capital of France is", ["Rome", "the city of Rome"], ["Paris"])
OPEN = Probe.of("locality", "The capital of Germany is")


def test_every_continuation_is_scored_in_order():
    (answer,) = ask(tiny_model(), [Question(PROBE)], [None], SILENT)
    assert answer.probe_id == PROBE.probe_id
    assert [(s.role, s.text) for s in answer.scored] == [
        ("answer", "Rome"),
        ("answer", "the city of Rome"),
        ("unwanted", "Paris"),
    ]
    for scored in answer.scored:
        assert len(scored.token_ids) == len(scored.logprobs) == len(scored.argmax) > 0


def test_an_open_probe_is_scored_along_what_the_unedited_model_says():
    model = tiny_model()
    (said,) = references(model, [OPEN])
    (answer,) = ask(model, [Question(OPEN, reference=said)], [None], SILENT)
    assert [s.role for s in answer.scored] == ["reference"]
    assert answer.scored[0].exact
    assert references(model, [PROBE]) == [""]


def test_speaking_freely_is_asked_for_by_axis():
    model = tiny_model()
    (quiet,) = ask(model, [Question(PROBE)], [None], SILENT)
    (loud,) = ask(model, [Question(PROBE)], [None], AskSettings(("paraphrase",), 7))
    assert (quiet.spoke, loud.spoke) == (False, True)
    assert quiet.said == model.tokenizer.decode(quiet.scored[0].argmax)
    assert len(model.tokenizer(loud.said)["input_ids"]) > len(quiet.scored[0].argmax)
    assert quiet.scored == loud.scored


def test_a_prefix_is_part_of_the_question():
    model = tiny_model()
    patch = Patch(prefix="New Fact: Rome is the capital.\nPrompt: ")
    plain, under = ask(model, [Question(PROBE, 0), Question(PROBE, 1)], [None, patch], SILENT)
    (written,) = ask(
        model,
        [
            Question(
                Probe.of("paraphrase", patch.prefix + PROBE.prompt, PROBE.answers, PROBE.unwanted)
            )
        ],
        [None],
        SILENT,
    )
    assert [s.argmax for s in under.scored] == [s.argmax for s in written.scored]
    assert plain.scored != under.scored


def test_on_locality_the_next_token_is_compared():
    model = tiny_model()
    patch = Patch(prefix="Rome is large.\n")
    there = Question(OPEN, 1, "Rome")
    (same,) = ask(model, [Question(OPEN, 0, "Rome")], [None, patch], SILENT)
    (moved,) = ask(model, [there], [None, patch], SILENT)
    (unasked,) = ask(model, [there], [None, patch], AskSettings((), 2, kl=False))
    (learnt,) = ask(model, [Question(PROBE, 1)], [None, patch], SILENT)
    assert same.kl == 0 < moved.kl
    assert (unasked.kl, learnt.kl) == (None, None)


def test_texts_are_written_and_what_they_are_compared_with_is_not_read():
    model = tiny_model()
    begun = Probe.of("fluency", "My favourite city is")
    read = Probe.of("fluency", "Water", ["is wet."], facet="fixed_text")
    compared = Probe.of("consistency", "My favourite city is", ["Rome is old.", "Rome is big."])
    probes = [begun, read, compared]
    said = references(model, probes)
    questions = [Question(p, reference=r) for p, r in zip(probes, said, strict=True)]
    free, fixed, beside = ask(model, questions, [None], SILENT)
    assert (free.spoke, fixed.spoke, beside.spoke) == (True, False, True)
    assert [s.role for s in free.scored] == ["reference"]
    assert [s.role for s in fixed.scored] == ["answer"]
    assert [s.role for s in beside.scored] == ["reference", "text", "text"]
    assert [s.token_ids for s in beside.scored[1:]] == [(), ()]
    # The dice are the probe's: the same text for the same model.
    assert ask(model, questions[:1], [None], SILENT)[0].said == free.said


def test_no_questions():
    assert ask(tiny_model(), [], [None], AskSettings()) == []
