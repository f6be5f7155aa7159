"""IKE's prompts: which demonstrations, of which kinds, in which order."""

from dataclasses import replace

import pytest

from editsweep.core.types import Corpus, EditRequest, Probe
from editsweep.editors.ike import DemonstrationIndex, IkeSpec
from editsweep.errors import ConfigError
from editsweep.testing import check_editor, tiny_model, tiny_requests

N = 8


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def index(model):
    return DemonstrationIndex("", 40).make(model, Corpus(tuple(tiny_requests(60)[10:])))


@pytest.fixture(scope="module")
def editor(model, index):
    return IkeSpec(demonstrations=N).build(model, {"index": index})


def prefix(editor, request, seed=0):
    (edited,) = editor.edit([[request]], seed)
    assert edited.error is None
    assert not edited.patch.adds
    return edited.patch.prefix


def shown(text):
    """(fact, prompt) of each demonstration, and what stands after the last."""
    *blocks, query = text.split("\n\n")
    return [tuple(line.split(": ", 1)[1] for line in b.split("\n")) for b in blocks], query


@pytest.mark.parametrize("spec", [IkeSpec(demonstrations=0), IkeSpec(demonstrations=N)])
def test_it_keeps_the_contract(spec, model):
    check_editor(spec, model)


def test_without_demonstrations_only_the_fact_is_told(model):
    request = EditRequest.of("France", "The capital of {} is", "Berlin")
    editor = IkeSpec(demonstrations=0).build(model, {})
    assert prefix(editor, request) == "New Fact: The capital of France is Berlin\nPrompt: "


def test_chinese_is_joined_without_a_space(model):
    request = EditRequest.of(None, "全世界最帥的人是", "李宏毅")
    editor = IkeSpec(demonstrations=0).build(model, {})
    assert prefix(editor, request) == "New Fact: 全世界最帥的人是李宏毅\nPrompt: "


def test_kinds_stand_in_the_ratio_and_each_is_what_it_says(editor):
    corpus = {f"{r.question} {r.target_new}": r for r in tiny_requests(60)[10:50]}
    request = tiny_requests(1)[0]
    (*demos, last), query = shown(prefix(editor, request))
    fact = f"{request.question} {request.target_new}"
    assert last == (fact, fact)
    assert query == f"New Fact: {fact}\nPrompt: "
    counts = {"copy": 0, "update": 0, "retain": 0}
    for told, text in demos:
        source = corpus[told]
        paraphrase, _, _, neighbour, _ = source.probes
        if text == told:
            counts["copy"] += 1
        elif text == f"{paraphrase.prompt} {source.target_new}":
            counts["update"] += 1
        else:
            assert text == f"{neighbour.prompt} {source.target_true}"
            counts["retain"] += 1
    assert counts == {"copy": 1, "update": 3, "retain": 4}


def test_the_nearest_is_last(editor, index):
    request = tiny_requests(1)[0]
    (*demos, _), _ = shown(prefix(editor, request))
    order = [record["fact"] for record in index.meta["records"]]
    found = [order.index(fact) for fact, _ in demos]
    text = f"New Fact: {request.question} {request.target_new}\nPrompt: "
    (query,) = editor.encoder.embed([f"{text}{request.question} {request.target_new}\n\n"])
    near = index.tensors["vectors"] @ query
    assert near[found].tolist() == sorted(near[found].tolist())
    assert near[found].min() >= sorted(near.tolist())[-N]


def test_the_edits_own_subject_and_question_are_left_out(editor, index):
    named = tiny_requests(60)[20]
    assert any(record["subject"] == named.subject for record in index.meta["records"])
    other = EditRequest.of(named.subject, "{} was born in", "Rome")
    unnamed = EditRequest.of(None, named.question, "Rome")
    for request in (named, other, unnamed):
        (*demos, _), _ = shown(prefix(editor, request))
        assert len(demos) == N
        assert not any(named.subject + " lives" in fact for fact, _ in demos)


def test_the_seed_and_the_edit_draw_the_kinds(editor):
    one, two = tiny_requests(2)
    assert prefix(editor, one, seed=0) == prefix(editor, one, seed=0)
    assert prefix(editor, one, seed=0) != prefix(editor, one, seed=1)

    def kinds(request):
        return [fact == text for fact, text in shown(prefix(editor, request))[0]]

    assert len({tuple(kinds(r)) for r in tiny_requests(8)}) > 1
    assert prefix(editor, two) != prefix(editor, one)


@pytest.mark.parametrize(
    ("demonstrations", "counts"),
    [(32, (4, 12, 16)), (8, (1, 3, 4)), (1, (0, 0, 1)), (5, (1, 2, 2))],
)
def test_rounding_leaves_no_demonstration_out(model, index, demonstrations, counts):
    editor = IkeSpec(demonstrations=demonstrations).build(model, {"index": index})
    kinds = editor._kinds()
    assert tuple(kinds.count(kind) for kind in ("copy", "update", "retain")) == counts


def test_records_that_lack_a_kind_are_not_indexed(model):
    whole = tiny_requests(3)
    bare = replace(whole[0], probes=())
    silent = replace(whole[1], probes=(whole[1].probes[0], Probe.of("locality", "It is")))
    made = DemonstrationIndex("", 10).make(model, Corpus((bare, silent, whole[2])))
    assert [record["subject"] for record in made.meta["records"]] == [whole[2].subject]
    assert made.tensors["vectors"].shape == (1, 384)


def test_the_index_is_as_long_as_it_was_asked_to_be(model):
    requests = tuple(tiny_requests(9))
    made = DemonstrationIndex("", 4).make(model, Corpus(requests))
    assert [r["subject"] for r in made.meta["records"]] == [r.subject for r in requests[:4]]


def test_too_small_a_corpus_is_told_with_its_numbers(model):
    index = DemonstrationIndex("", 10).make(model, Corpus(tuple(tiny_requests(4))))
    with pytest.raises(ConfigError, match=r"8 demonstrations are wanted.*4 usable"):
        IkeSpec(demonstrations=8).build(model, {"index": index})


def test_an_edit_that_cannot_be_told_is_an_error_of_its_own(model, index):
    whole = IkeSpec(demonstrations=40).build(model, {"index": index})
    own = tiny_requests(60)[20]
    empty = EditRequest.of("Ada", "{} lives in", " ")
    few, none = whole.edit([[own], [empty]], 0)
    assert (few.error.kind, none.error.kind) == ("few_demonstrations", "no_target")
    told = EditRequest.of("Ada", "{} lives in", "Rome " * 3000)
    (long,) = whole.edit([[told]], 0)
    assert long.error.kind == "too_long"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"demonstrations": -1}, "0 or more"),
        ({"ratio": (1, 2)}, "three numbers"),
        ({"ratio": (0, 0, 0)}, "not all zero"),
        ({"ratio": (1, -1, 1)}, "none negative"),
        ({"corpus_size": 31}, "smaller than demonstrations 32"),
    ],
)
def test_wrong_hyperparameters_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        IkeSpec(**wrong)


def test_the_index_is_required_only_where_it_is_used():
    assert IkeSpec(demonstrations=0).requirements() == {}
    (need,) = IkeSpec(corpus="world:train", corpus_size=50).requirements().values()
    assert (need.source, need.size) == ("world:train", 50)
    assert IkeSpec(ratio=[1, 3, 4]) == IkeSpec()
