"""An editor in a package of somebody else: the example of docs/index.md, as it stands there."""

import re
from pathlib import Path

import pytest

from editsweep.core.types import EditRequest
from editsweep.editors import EDITORS
from editsweep.testing import check_editor, installed, tiny_model

PAGE = Path(__file__).parents[2] / "docs" / "index.md"


@pytest.fixture
def example(tmp_path):
    """The example, installed with its entry point."""
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (entry,) = re.findall(r'entry-points\."(editsweep\.editors)"\]\n(\w+) = "(.*?)"', text)
    group, name, target = entry
    with installed(tmp_path, code, {name: target}, group):
        yield


@pytest.mark.usefixtures("example")
def test_it_is_found_by_name_and_keeps_the_contract():
    assert EDITORS.names()[-1] == "tell"
    spec = EDITORS.load("tell")()
    assert spec.name == "tell"
    check_editor(spec)


@pytest.mark.usefixtures("example")
def test_it_says_the_fact_first():
    editor = EDITORS.load("tell")(lead="Note: ").build(tiny_model(), {})
    request = EditRequest.of("Lyon", "{} is a city in", "Japan", "France")
    (edited,) = editor.edit([[request]], seed=0)
    assert edited.patch.prefix == "Note: Lyon is a city in Japan.\n"


def test_it_is_gone_when_it_is_not_installed():
    assert "tell" not in EDITORS.names()
