"""Where the datasets that EditSweep ships lie."""

import os
from pathlib import Path

from editsweep.errors import DataError


def datasets_root() -> Path:
    """The datasets folder: `$EDITSWEEP_DATASETS`, else the checkout's, else the wheel's.

    Raises:
        DataError: none of them is a folder.
    """
    package = Path(__file__).resolve().parents[1]
    named = os.environ.get("EDITSWEEP_DATASETS")
    places = [Path(named)] if named else [package.parents[1] / "datasets", package / "_datasets"]
    for place in places:
        if place.is_dir():
            return place
    looked = ", ".join(str(place) for place in places)
    raise DataError(
        f"no datasets folder (looked in {looked}): set EDITSWEEP_DATASETS to the `datasets` folder "
        "of a checkout, or install the package again"
    )
