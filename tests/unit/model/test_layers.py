import pytest

from editsweep.core.types import Corpus
from editsweep.errors import ConfigError
from editsweep.model import layers as module
from editsweep.model.layers import Layers
from editsweep.model.tiny import tiny_model

NOTHING = Corpus()


class Deep:
    """As much of a model as a choice of layers looks at."""

    def __init__(self, family, depth):
        self.family, self.depth, self.name = type("F", (), {"name": family}), depth, "deep"

    def checked_layer(self, layer, fraction):
        return layer


@pytest.mark.parametrize(
    ("family", "depth", "one", "several"),
    [
        ("llama", 32, 5, (4, 8)),
        ("llama", 30, 5, (4, 8)),
        ("gpt2", 48, 17, (13, 17)),
        ("gpt-j", 28, 5, (3, 7)),
    ],
)
def test_where_the_field_edits(family, depth, one, several):
    model = Deep(family, depth)
    assert Layers().of(model, NOTHING) == (one,)
    made = Layers(None, 5).of(model, NOTHING)
    assert (made[0], made[-1], len(made)) == (*several, 5)


def test_named_layers_are_taken_as_they_are():
    assert Layers(2).of(tiny_model(), NOTHING) == (2,)
    assert Layers((0, 2), 5).of(tiny_model(), NOTHING) == (0, 2)


def test_a_small_model_has_fewer_and_never_its_last_block():
    assert Layers(None, 5).of(tiny_model(), NOTHING) == (0, 1)


@pytest.mark.parametrize("wrong", [(2, 1), (1, 1), ()])
def test_layers_out_of_order_are_refused(wrong):
    with pytest.raises(ConfigError, match="ascending"):
        Layers(wrong).of(tiny_model(), NOTHING)


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="blocks 0 to 2"):
        Layers((1, 3)).of(tiny_model(), NOTHING)


def test_auto_is_the_window_around_the_traced_layer(monkeypatch):
    monkeypatch.setattr(module, "traced_layer", lambda model, corpus: 6)
    assert Layers("auto").of(Deep("llama", 30), NOTHING) == (6,)
    assert Layers("auto", 5).of(Deep("llama", 30), NOTHING) == (4, 5, 6, 7, 8)
    assert Layers("auto", 5).of(Deep("llama", 8), NOTHING) == (2, 3, 4, 5, 6)
