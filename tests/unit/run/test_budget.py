import pytest

from editsweep.errors import ConfigError
from editsweep.run.budget import Budget


@pytest.mark.parametrize(
    ("text", "most", "edits"), [("20", 20, 1000), ("0", 0, 10), ("5%", 5, 100), ("2.5%", 2, 100)]
)
def test_so_many_are_borne_and_no_more(text, most, edits):
    budget = Budget.parse(text)
    assert budget.bears(most, edits)
    assert not budget.bears(most + 1, edits)
    assert str(budget) == text


def test_without_a_budget_everything_is_borne():
    assert Budget().bears(10, 10)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "101%", "-1%", "many", "5 %%", "%"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(ConfigError, match="write a number of edits"):
        Budget.parse(text)
