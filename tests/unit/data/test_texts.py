from editsweep.core.types import EditRequest, Probe
from editsweep.data.registry import load
from editsweep.data.texts import statements


def test_true_sentences_once_and_in_order():
    nice = Probe.of("locality", "Nice is in", ("France", "the French Republic"), ("Japan",))
    unknown = Probe.of("locality", "Cannes is in")
    false = Probe.of("portability", "In Lyon people pay with the", ("yen",), ("euro",))
    lyon = EditRequest.of("Lyon", "{} is in", "Japan", "France", [nice, unknown, false])
    paris = EditRequest.of("Paris", "{} is in", "Peru", None, [nice])
    chinese = EditRequest.of("日本", "{}的首都是", "京都", "東京")
    assert list(statements([lyon, paris, chinese])) == [
        "Lyon is in France",
        "Nice is in France",
        "日本的首都是東京",
    ]


def test_world_says_many_true_things():
    texts = list(statements(load("world", "train", 500).requests))
    assert len(texts) == len(set(texts)) > 700
    assert "The currency of Japan is the yen" in set(
        statements(load("world", "train").requests)
    ) | set(statements(load("world").requests))
