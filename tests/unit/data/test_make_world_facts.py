import json
import shutil
from importlib.metadata import PackageNotFoundError, version

import pytest

from editsweep.data.make_world_facts import plain, write_tables
from editsweep.data.root import datasets_root

FOLDER = datasets_root() / "world"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))


def installed(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@pytest.mark.skipif(
    {name: installed(name) for name in MANIFEST["made_with"]} != MANIFEST["made_with"],
    reason=f"needs exactly {MANIFEST['made_with']}",
)
def test_the_tables_can_be_made_again(tmp_path):
    for name in ("choices.csv", "city_names.csv"):
        shutil.copy(FOLDER / name, tmp_path)
    assert write_tables(tmp_path) == MANIFEST["files"]
    for name in (*MANIFEST["files"], "manifest.json"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


@pytest.mark.parametrize(
    ("local", "ascii_name"),
    [("São Paulo", "Sao Paulo"), ("Łódź", "Lodz"), ("Cần Thơ", "Can Tho"), ("Xi’an", "Xi'an")],
)
def test_plain_names(local, ascii_name):
    assert plain(local) == ascii_name
