import json
from pathlib import Path

import pytest

from editsweep.core.types import EditRequest

REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "goldens.json"


@pytest.fixture(scope="session")
def goldens():
    """Numbers that the published implementations gave on the small real model."""
    if not REFERENCE.is_file():
        pytest.skip("the numbers of the published implementations are not beside this checkout")
    return json.loads(REFERENCE.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def near():
    """Checks a vector against the norm and the first entries of the published one, relatively."""
    import torch

    def check(mine, theirs, tolerance):
        first = torch.tensor(theirs["first8"])
        assert float(mine.norm()) == pytest.approx(theirs["norm"], rel=tolerance)
        assert float((mine[: len(first)] - first).norm() / first.norm()) < tolerance

    return check


@pytest.fixture(scope="session")
def smollm2():
    """The small real model, from its wheel."""
    from editsweep.model.load import load

    return load("smollm2-135m")


@pytest.fixture(scope="session")
def requests(goldens):
    """The facts of the goldens, by id."""
    return {
        fact["id"]: EditRequest.of(fact["subject"], fact["prompt"], fact["target_new"])
        for fact in goldens["facts"]
    }


@pytest.fixture(scope="session")
def moments(goldens, smollm2):
    """C of blocks 4 to 8 over the sentences of the goldens, and the number of vectors."""
    from editsweep.model.moments import second_moments

    sentences = goldens["covariance"]["sentences"]
    made, count, _ = second_moments(smollm2, range(4, 9), sentences, 10**6)
    return made, count


@pytest.fixture(scope="session")
def assets(goldens, moments):
    """The assets with which the published implementations were run, for editors of any layers."""
    from editsweep.model.asset import Asset

    def of(*layers):
        tensors = {f"moment.{layer}": moments[0][layer] for layer in layers}
        templates = list(goldens["context_templates"][1:])
        return {
            "contexts": Asset(meta={"templates": templates}),
            "moment": Asset(tensors, {"layers": list(layers)}),
        }

    return of
