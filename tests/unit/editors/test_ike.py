"""IKE's prompts: which demonstrations, of which kinds, in which order."""

from dataclasses import replace

import pytest

from editsweep.core.language import language_of
from editsweep.core.types import Corpus, EditRequest, Probe
from editsweep.data.registry import load
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


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (("全世界最帥的人", "{}是", "李宏毅"), "新事实：全世界最帥的人是李宏毅\n提示："),
        (("Ada", "{}住在", "Rome"), "新事实：Ada住在Rome\n提示："),
        (("フランス", "{}の首都は", "東京"), "新しい事実：フランスの首都は東京\nプロンプト："),
        (("프랑스", "{}의 수도는", "도쿄"), "새로운 사실: 프랑스의 수도는도쿄\n프롬프트: "),
        (("王小明", "{} lives in", "Rome"), "New Fact: 王小明 lives in Rome\nPrompt: "),
    ],
)
def test_the_words_are_of_the_edits_language(request_, told, model):
    editor = IkeSpec(demonstrations=0).build(model, {})
    assert prefix(editor, EditRequest.of(*request_)) == told


def chinese(i):
    """An edit in Chinese, with questions in both languages."""
    name = f"{'甲乙丙丁戊己庚辛壬癸'[i]}先生"
    probes = (
        Probe.of("paraphrase", f"{name}的家在", ["羅馬"]),
        Probe.of("paraphrase", f"{name} lives in", ["羅馬"]),
        Probe.of("locality", "東京是哪國的城市？", ["日本"]),
        Probe.of("locality", "Tokyo is a city in", ["Japan"]),
    )
    return EditRequest.of(name, "{}住在", "羅馬", "巴黎", probes)


def test_demonstrations_are_of_the_edits_language(model):
    corpus = Corpus((*tiny_requests(12)[2:], *(chinese(i) for i in range(2, 9))))
    index = DemonstrationIndex("", 40).make(model, corpus)
    editor = IkeSpec(demonstrations=7).build(model, {"index": index})
    told = prefix(editor, chinese(0))
    assert told.count("新事实：") == 9
    assert not any(char.isascii() and char.isalpha() for char in told)
    assert "住在羅馬\n" in told
    english = prefix(editor, tiny_requests(1)[0])
    assert english.count("New Fact: ") == 9
    assert "新" not in english
    whole = IkeSpec(demonstrations=8).build(model, {"index": index})
    few, enough = whole.edit([[chinese(0)], [tiny_requests(1)[0]]], 0)
    assert few.error.kind == "few_demonstrations"
    assert "7 usable records in Chinese" in str(few.error)
    assert enough.error is None


@pytest.mark.parametrize(
    ("dataset", "file", "chinese"),
    [
        ("cknowedit", "cknowedit_zh.jsonl", True),
        ("bmike-53", "bmike53_mzsre_en_zh-cn.jsonl", False),
    ],
)
def test_published_edits_are_told_in_their_language(dataset, file, chinese, model, real_data):
    requests = load(dataset, path=real_data(file), skip_bad=True).requests
    index = DemonstrationIndex("", 20).make(model, Corpus(requests[10:]))
    editor = IkeSpec(demonstrations=4).build(model, {"index": index})
    for edited in editor.edit([[request] for request in requests[:4]], 0):
        lines = edited.patch.prefix.split("\n")
        assert lines[-1] == ("提示：" if chinese else "Prompt: ")
        told = [line for line in lines if line.startswith(("新事实：", "New Fact: "))]
        assert len(told) == 6
        assert all(line.startswith("新") == chinese for line in told)
        assert chinese or all(language_of(line) == "en" for line in lines)


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
