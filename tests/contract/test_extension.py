"""An editor in a package of somebody else: the example of docs/index.md, as it stands there."""

import re
import sys
from pathlib import Path

import pytest

from editsweep.core.types import EditRequest
from editsweep.editors import EDITORS
from editsweep.testing import check_editor, tiny_model

PAGE = Path(__file__).parents[2] / "docs" / "index.md"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example, installed as `my_package` with its entry point."""
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (entry,) = re.findall(r'entry-points\."(editsweep\.editors)"\]\n(\w+) = "(.*?)"', text)
    (tmp_path / "my_package.py").write_text(code)
    info = tmp_path / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[{}]\n{} = {}\n".format(*entry))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_package", None)


@pytest.mark.usefixtures("installed")
def test_it_is_found_by_name_and_keeps_the_contract():
    assert EDITORS.names()[-1] == "tell"
    spec = EDITORS.load("tell")()
    assert spec.name == "tell"
    check_editor(spec)


@pytest.mark.usefixtures("installed")
def test_it_says_the_fact_first():
    editor = EDITORS.load("tell")(lead="Note: ").build(tiny_model(), {})
    request = EditRequest.of("Lyon", "{} is a city in", "Japan", "France")
    (edited,) = editor.edit([[request]], seed=0)
    assert edited.patch.prefix == "Note: Lyon is a city in Japan.\n"


def test_it_is_gone_when_it_is_not_installed():
    assert "tell" not in EDITORS.names()
