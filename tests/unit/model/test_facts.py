import pytest
import torch

from editsweep.core.types import EditRequest
from editsweep.errors import ConfigError, EditError
from editsweep.model.facts import Fact, known_facts, next_tokens, subject_deviation
from editsweep.model.tiny import tiny_model
from editsweep.model.tokens import join


def test_the_subject_is_found_by_characters():
    model = tiny_model()
    fact = Fact.of(model, EditRequest.of("The Eiffel Tower", "See: {} is in", "Rome"))
    told = [model.tokenizer.decode([token]) for token in fact.ids]
    assert "".join(told[fact.span.start : fact.span.stop]).strip() == "The Eiffel Tower"
    roles = dict.fromkeys(fact.roles)
    assert list(roles) == [
        "before",
        "first_subject",
        "middle_subject",
        "last_subject",
        "first_after",
        "last",
    ]
    assert fact.roles.count("last_subject") == 1


def test_characters_of_several_tokens_belong_to_the_subject_whole():
    model = tiny_model()
    fact = Fact.of(model, EditRequest.of("鬱", "{}是", "日本"))
    assert model.tokenizer.decode(fact.ids[: fact.span.stop]) == "鬱"
    assert len(fact.span) > 1


def test_one_token_is_the_last_of_its_subject_and_a_prompt_may_end_in_it():
    model = tiny_model()
    alone = Fact.of(model, EditRequest.of("Paris", "The capital is {}", "x"))
    assert alone.roles[-1] == "last_subject"
    assert Fact.of(model, EditRequest.of("The", "{} city of", "x")).roles[0] == "last_subject"


def test_the_fact_is_the_question_and_not_what_it_is_edited_to():
    model = tiny_model()
    one, other = (Fact.of(model, EditRequest.of("Japan", "{} is", new)) for new in "ab")
    assert one.fact_id == other.fact_id


def test_known_facts_are_those_that_the_model_says():
    model = tiny_model()
    asked = [EditRequest.of(s, "{} is in", "x") for s in ("Paris", "Rome", "Tokyo", "Madrid")]
    tokens = next_tokens(model, [Fact.of(model, request) for request in asked])
    said = [model.tokenizer.decode([token]) for token in tokens]
    requests = [
        EditRequest.of(r.subject, r.prompt, "x", text.strip() if right else "zzz")
        for r, text, right in zip(asked, said, (True, False, True, True), strict=True)
        if join(r.question, text.strip()) == r.question + text
    ]
    requests += [EditRequest.of("Rome", "{} is in", "x"), EditRequest.of(None, "Rome is", "x", "y")]
    found = list(known_facts(model, requests))
    facts = [entry for entry in found if isinstance(entry, Fact)]
    wanted = [r.question for r in requests if r.target_true not in (None, "zzz", "y")]
    assert [fact.prompt for fact in facts] == wanted
    reasons = [entry[1] for entry in found if not isinstance(entry, Fact)]
    assert "no known answer" in reasons
    assert any("has none" in reason for reason in reasons)
    everything = list(known_facts(model, requests, every=True))
    assert sum(isinstance(entry, Fact) for entry in everything) == len(requests) - 1


def test_a_request_without_a_subject_or_too_long_is_refused():
    model = tiny_model()
    with pytest.raises(EditError, match="no_subject"):
        Fact.of(model, EditRequest.of(None, "x", "y"))
    with pytest.raises(EditError, match="too_long"):
        Fact.of(model, EditRequest.of("Rome", "{} is" + " is" * 5000, "y"))


def test_sigma_is_over_every_entry_of_every_token():
    model = tiny_model()
    weight = model.module.get_input_embeddings().weight
    ids = model.tokenizer("Paris")["input_ids"] + model.tokenizer("Tokyo Tower")["input_ids"]
    wanted = float(weight[torch.tensor(ids)].std())
    assert subject_deviation(model, ["Paris", "Tokyo Tower"]) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(ConfigError, match="--sigma"):
        subject_deviation(model, [])
