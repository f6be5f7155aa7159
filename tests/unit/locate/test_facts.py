import pytest
import torch

from editsweep.locate import facts as module
from editsweep.locate.facts import Facts, fact_rows
from editsweep.locate.site import BlockOut, Halves, MlpOut
from editsweep.locate.value import Search, find_values
from editsweep.model.tiny import tiny_model
from editsweep.testing import tiny_requests

TEMPLATES = ("{}", "Because of this, the. {}")


@pytest.mark.parametrize("site", [MlpOut(1), BlockOut(1), Halves(1)])
@pytest.mark.parametrize("stop", [0.05, 6.25])
def test_one_pass_for_few_rows_finds_what_two_find(monkeypatch, site, stop):
    """Also when some facts are done earlier than others."""
    model = tiny_model()
    rows = [fact_rows(model, TEMPLATES, request) for request in tiny_requests(4)]
    search = Search(0.5, 6, stop, 0.0625, 1e-3, 4.0)
    found = []
    for few in (0, 24):
        monkeypatch.setattr(module, "FEW_ROWS", few)
        facts = Facts.of(model, rows, site.tail_layer)
        assert (facts.alone is None) == (few > 0)
        found.append(find_values(facts, site, search))
    two, one = found
    assert [len(losses) for losses in one.losses] == [len(losses) for losses in two.losses]
    torch.testing.assert_close(one.start, two.start, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.delta, two.delta, atol=1e-3, rtol=1e-3)
    for mine, theirs in zip(one.losses, two.losses, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
