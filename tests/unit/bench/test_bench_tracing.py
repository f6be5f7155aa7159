import pytest

from editsweep.bench import tracing
from editsweep.model.facts import Fact
from editsweep.model.tiny import tiny_model
from editsweep.model.tracing import TraceSettings, trace


def test_both_ways_give_the_same_score():
    model, settings = tiny_model(), TraceSettings(window=2, samples=2)
    fact = Fact.of(model, tracing.REQUEST)
    (made,) = trace(model, [fact], settings, 0.5)
    token = fact.span[-1]
    found = tracing.plain(model, fact, settings, 0.5, "mlp", 1, token)
    assert found == pytest.approx(float(made.restored["mlp"][token, 1]), abs=1e-6)
    assert abs(found - made.low) > 1e-5


def test_the_bench_tells_both_ways(monkeypatch, capsys):
    argv = ["tracing", "--model", "tiny-llama", "--sites", "1", "--threads", "1"]
    monkeypatch.setattr("sys.argv", argv)
    tracing.main()
    told = capsys.readouterr().out
    assert "| many sites a pass |" in told
    assert "in FLOP" in told
