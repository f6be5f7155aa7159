import pytest

from editsweep.errors import StoreError
from editsweep.store.chains import ChainFiles


def test_a_state_comes_back_until_it_is_forgotten(tmp_path):
    files = ChainFiles(tmp_path)
    assert files.find("cell", "a") is None
    files.keep("cell", "a", b"one")
    files.keep("cell", "b", b"two")
    assert (files.find("cell", "a"), files.find("cell", "b")) == (b"one", b"two")
    files.forget("cell", "a")
    files.forget("cell", "never there")
    assert files.find("cell", "a") is None
    assert files.find("cell", "b") == b"two"
    assert files.path("cell", "b").parent == tmp_path / "chains" / "cell"


@pytest.mark.parametrize("damage", [b"", b"twO", b"two and more"])
def test_a_damaged_state_is_none(tmp_path, damage):
    files = ChainFiles(tmp_path)
    files.keep("cell", "a", b"two")
    files.path("cell", "a").write_bytes(damage)
    assert files.find("cell", "a") is None
    files.keep("cell", "a", b"two")
    assert files.find("cell", "a") == b"two"


def test_the_end_of_a_sequence_is_written_down(tmp_path):
    files = ChainFiles(tmp_path)
    assert files.why_lost("cell", "a") is None
    files.lose("cell", "a", "its worker died")
    assert files.why_lost("cell", "a") == "its worker died"
    files.keep("cell", "a", b"it was done after all")
    assert files.why_lost("cell", "a") is None


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "chains").write_text("a file in the way")
    with pytest.raises(StoreError, match="give the same command again"):
        ChainFiles(tmp_path).keep("cell", "a", b"one")
