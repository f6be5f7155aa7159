from editsweep.core.types import Corpus
from editsweep.model.contexts import Contexts
from editsweep.model.tiny import tiny_model


def test_contexts_are_seeded_templates():
    templates = Contexts(7, seed=1).make(tiny_model(), Corpus()).meta["templates"]
    assert len(templates) == 7
    assert all(t.endswith(". {}") and t.count("{") == 1 for t in templates)
    assert templates == Contexts(7, seed=1).make(tiny_model(), Corpus()).meta["templates"]
    assert templates != Contexts(7, seed=2).make(tiny_model(), Corpus()).meta["templates"]


def test_none_and_one():
    assert Contexts(0).make(tiny_model(), Corpus()).meta["templates"] == []
    assert len(Contexts(1).make(tiny_model(), Corpus()).meta["templates"]) == 1
