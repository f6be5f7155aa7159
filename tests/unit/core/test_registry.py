import sys

import pytest

from editsweep.core.registry import Registry
from editsweep.editors import EDITORS
from editsweep.errors import ConfigError
from editsweep.testing import installed

SHAPES = Registry(
    "shape", "test.shapes", {"path": "pathlib:PurePosixPath", "od": "collections:OrderedDict"}
)


@pytest.fixture
def extension(tmp_path):
    """An installed package that adds two names, one of which is taken."""
    entries = {"circle": "round_shapes:Circle", "path": "round_shapes:Circle"}
    with installed(tmp_path, "class Circle: pass\n", entries, "test.shapes"):
        yield


def test_a_name_of_the_table_is_imported():
    assert SHAPES.load("od").__name__ == "OrderedDict"


def test_names_keep_the_order_of_the_table():
    assert SHAPES.names() == ("path", "od")


@pytest.mark.usefixtures("extension")
def test_an_entry_point_adds_a_name_after_our_own():
    assert SHAPES.names() == ("path", "od", "circle")
    assert SHAPES.load("circle").__name__ == "Circle"


@pytest.mark.usefixtures("extension")
def test_an_entry_point_cannot_replace_our_own():
    assert SHAPES.load("path").__name__ == "PurePosixPath"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown editor 'roem'; did you mean 'rome'"):
        EDITORS.load("roem")


@pytest.mark.usefixtures("extension")
def test_an_unknown_name_may_be_near_to_an_entry_point():
    with pytest.raises(ConfigError, match="did you mean 'circle'"):
        SHAPES.load("circl")


@pytest.mark.usefixtures("extension")
def test_listing_imports_nothing():
    assert "circle" in SHAPES.names()
    assert "round_shapes" not in sys.modules
