"""Who is trained on, who decides when to stop, and who is asked at the end."""

from dataclasses import replace

import pytest

from editsweep.data.registry import load
from editsweep.learn.split import divide
from editsweep.testing import tiny_requests


@pytest.fixture(scope="module")
def requests():
    return load("world", "train").requests


def subjects(records):
    return {record.subject for record in records}


def test_every_record_is_in_one_part(requests):
    split = divide(requests, 0.1, 0)
    assert sum(map(len, split.parts.values())) == len(requests)
    for part in ("validation", "test"):
        assert 0.07 < len(split.parts[part]) / len(requests) < 0.13


def test_no_subject_and_no_held_out_relation_is_trained_on(requests):
    split = divide(requests, 0.1, 0)
    train, validation, test = (subjects(split.parts[p]) for p in ("train", "validation", "test"))
    assert not train & validation
    assert not train & test
    assert not validation & test
    held = set(split.held_out["validation"]) | set(split.held_out["test"])
    assert held
    assert not held & {r.relation for r in split.parts["train"]}
    # A relation of the test part decides nothing before the end.
    assert not set(split.held_out["test"]) & {r.relation for r in split.parts["validation"]}


def test_the_digest_tells_splits_apart(requests):
    some = requests[:200]
    assert divide(some, 0.1, 0) == divide(some, 0.1, 0)
    assert divide(some, 0.1, 0).digest != divide(some, 0.1, 1).digest
    assert divide(some, 0.1, 0).digest != divide(some[:-1], 0.1, 0).digest


def test_records_without_relations_are_split_by_subject():
    bare = [replace(r, relation="") for r in tiny_requests(80)]
    split = divide(bare, 0.2, 0)
    assert split.held_out["test"] == ()
    assert all(split.parts.values())
