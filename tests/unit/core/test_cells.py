import pytest

from editsweep.core.cells import guarded


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1"])
def test_what_a_spreadsheet_would_run_is_led_by_a_quote(text):
    assert guarded(text) == "'" + text


@pytest.mark.parametrize("text", ["", "Lyon", " =1", "a=b", "東京", "1-2"])
def test_other_text_is_left_alone(text):
    assert guarded(text) == text
