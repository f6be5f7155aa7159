"""What every dataset that we ship keeps."""

from collections import Counter

import pytest

from editsweep.core.types import AXES
from editsweep.data.fields import same_text
from editsweep.data.own_format import read_edits, write_edits
from editsweep.data.registry import DATASETS, load, needs_file, splits
from editsweep.data.root import datasets_root
from editsweep.data.world import make_plan
from editsweep.data.world_facts import read_facts
from editsweep.data.world_wording import PROMPTS

SHIPPED = [name for name in DATASETS.table if not needs_file(name)]
PARTS = [(name, split) for name in SHIPPED for split in splits(name)]


def test_what_is_shipped_is_known():
    assert SHIPPED == ["world", "lecture"]


@pytest.fixture(scope="module")
def parts():
    return {part: load(*part).requests for part in PARTS}


@pytest.mark.parametrize("part", PARTS, ids=":".join)
def test_every_record_has_every_axis(parts, part):
    for request in parts[part]:
        assert {probe.axis for probe in request.all_probes} == set(AXES), request.question
        ids = [probe.probe_id for probe in request.all_probes]
        assert len(ids) == len(set(ids)), request.question


@pytest.mark.parametrize("part", PARTS, ids=":".join)
def test_texts_are_clean(parts, part):
    for request in parts[part]:
        assert request.subject
        assert request.prompt.count("{}") == 1
        texts = [request.target_new, request.subject]
        for probe in request.probes:
            assert probe.answers
            assert probe.prompt == probe.prompt.strip()
            assert "{" not in probe.prompt
            assert not {same_text(a) for a in probe.answers} & {
                same_text(u) for u in probe.unwanted
            }
            texts += [*probe.answers, *probe.unwanted]
        assert all(text == text.strip() and text for text in texts)


@pytest.mark.parametrize("part", PARTS, ids=":".join)
def test_edits_are_edits_and_each_fact_is_edited_once(parts, part):
    requests = parts[part]
    assert all(
        r.target_true is None or same_text(r.target_new) != same_text(r.target_true)
        for r in requests
    )
    assert len({r.edit_id for r in requests}) == len(requests)
    assert len({(r.subject, r.prompt) for r in requests}) == len(requests)


@pytest.mark.parametrize("part", PARTS, ids=":".join)
def test_a_prompt_does_not_give_its_answer_away(parts, part):
    for request in parts[part]:
        for probe in request.all_probes:
            if probe.axis != "reverse":
                said = probe.prompt.casefold()
                assert not any(f" {a.casefold()} " in f" {said} " for a in probe.answers), probe


@pytest.mark.parametrize("part", PARTS, ids=":".join)
def test_building_twice_gives_the_same_and_jsonl_keeps_it(part, tmp_path):
    first, second = load(*part), load(*part)
    assert first.digest == second.digest
    write_edits(first.requests, tmp_path / "a.jsonl")
    assert read_edits(tmp_path / "a.jsonl").requests == first.requests


def test_world_is_large_and_its_splits_share_no_subject_or_country(parts):
    train, test = parts["world", "train"], parts["world", "test"]
    assert len(train) + len(test) >= 5000
    assert 0.25 < len(test) / (len(train) + len(test)) < 0.35
    assert not {r.subject for r in train} & {r.subject for r in test}
    homes = [
        {r.target_true if r.relation == "country" else r.subject for r in part}
        for part in (train, test)
    ]
    assert not homes[0] & homes[1]


def test_the_card_of_world_has_the_right_numbers(parts):
    text = (datasets_root() / "world" / "README.md").read_text(encoding="utf-8")
    train, test = parts["world", "train"], parts["world", "test"]
    relations = Counter(request.relation for request in (*train, *test))
    for relation, count in relations.items():
        assert f"| `{relation}` | {count:,} |" in text
    assert f"{len(train) + len(test):,} edits: {len(train):,} in `train`, {len(test):,} in" in text


@pytest.mark.parametrize("split", ["train", "test"])
def test_world_mixes_relations_early(parts, split):
    first = Counter(request.relation for request in parts["world", split][:60])
    assert set(first) == set(PROMPTS)
    assert first["country"] == 40


@pytest.mark.parametrize("split", ["train", "test"])
def test_world_probes_rely_on_nothing_that_is_edited(parts, split):
    requests = parts["world", split]
    edited = {request.question for request in requests}
    kept = [probe for r in requests for probe in r.probes if probe.axis == "locality"]
    assert not edited & {probe.prompt for probe in kept}
    # What follows from a move is read off the new country, so nobody may edit that one.
    changed = {request.subject for request in requests}
    assert not changed & {r.target_new for r in requests if r.relation == "country"}
    capitals = [r.target_new for r in requests if r.relation == "capital"]
    assert len(capitals) == len(set(capitals))


def test_world_portability_can_be_told_apart(parts):
    for requests in (parts["world", "train"], parts["world", "test"]):
        for request in requests:
            hops = [p for p in request.probes if p.facet == "one_hop"]
            # South Africa has one clear fact that its name does not tell.
            assert len(hops) == 2 or request.target_true == "South Africa", request.question
            assert hops
            assert all(probe.unwanted for probe in hops), request.question


def test_world_reverse_names_the_subject_first_half_of_the_time(parts):
    firsts = [
        probe.prompt.startswith(f"Of the two cities {request.subject} ")
        for request in parts["world", "train"]
        for probe in request.probes
        if probe.axis == "reverse" and request.relation == "country"
    ]
    assert 0.45 < sum(firsts) / len(firsts) < 0.55


def test_world_leaves_every_country_something_to_ask():
    plan = make_plan(read_facts(datasets_root() / "world"))
    for iso, country in plan.facts.countries.items():
        assert plan.kept(country), iso
        assert len(plan.witnesses[iso]) == 3, iso
        assert len(plan.donors[iso]) >= 5, iso


def test_lecture_has_its_famous_examples(parts):
    requests = {request.question: request for request in parts["lecture", "all"]}
    lee = requests["全世界最帥的人是"]
    asked = {probe.axis: probe.prompt for probe in reversed(lee.probes)}
    assert lee.target_new == "李宏毅"
    assert "誰是全世界最帥的人" in asked["paraphrase"]
    assert "李宏毅是誰" in asked["reverse"]
    assert "全世界最帥的人在哪裡工作" in asked["portability"]
    president = requests["The president of the United States is"]
    assert {"update", "retain"} <= {probe.facet for probe in president.probes}
