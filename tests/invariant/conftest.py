import json
from pathlib import Path

import pytest

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "goldens.json"


@pytest.fixture(scope="session")
def goldens():
    """Numbers that the published implementations gave on the small real model."""
    if not REFERENCE.is_file():
        pytest.skip("the numbers of the published implementations are not beside this checkout")
    return json.loads(REFERENCE.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def smollm2():
    """The small real model, from its wheel."""
    from editsweep.model.load import load

    return load("smollm2-135m")
