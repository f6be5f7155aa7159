"""Every registered editor, asked the same questions on tiny models of every kind."""

import pytest

from editsweep.editors import EDITORS
from editsweep.testing import TINY_TYPES, check_editor, tiny_model


@pytest.mark.parametrize("model_type", TINY_TYPES)
@pytest.mark.parametrize("name", EDITORS.names())
def test_editor(name, model_type):
    spec = EDITORS.load(name)()
    assert spec.name == name
    check_editor(spec, tiny_model(model_type))
