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


def test_no_questions():
    assert ask(tiny_model(), [], [None], AskSettings()) == []
