"""Names of models: what they resolve to, and what is said of those that do not."""

import json
import re
import subprocess
import sys

import pytest

from editsweep.core.names import safe_name
from editsweep.errors import ConfigError, ModelError
from editsweep.model.catalogue import CATALOGUE, listing, resolve
from editsweep.model.tiny import tiny_model


def test_every_entry_is_pinned_by_content():
    for name, entry in CATALOGUE.items():
        assert safe_name("model", name) == entry.name
        digits = 40 if entry.source == "hub" else 64
        assert re.fullmatch(rf"[0-9a-f]{{{digits}}}", entry.revision), name
        assert entry.licence or entry.source == "random", name


def test_a_random_entry_is_pinned_by_its_weights():
    for entry in CATALOGUE.values():
        if entry.source == "random":
            assert tiny_model(entry.location).revision == entry.revision


def test_the_listing_is_plain_json():
    rows = json.loads(json.dumps(listing()))
    assert [row["name"] for row in rows] == list(CATALOGUE)


def test_a_wrong_name_is_told_the_nearest():
    with pytest.raises(ConfigError, match=r"did you mean 'smollm2-135m'"):
        resolve("smollm2-135")


def test_a_missing_folder_is_told_how_the_hub_is_named():
    with pytest.raises(ModelError, match="owner/name@"):
        resolve("gpt2/main")


def test_what_is_spoken_of_a_model_resolves_to_it(tmp_path):
    hub = "someone/a-model@" + "0a" * 20
    assert [resolve(name).spoken for name in ("gpt2-xl", "tiny-llama", hub)] == [
        *("gpt2-xl", "tiny-llama"),
        hub,
    ]
    tiny_model("llama").module.save_pretrained(tmp_path)
    assert resolve(resolve(str(tmp_path)).spoken) == resolve(str(tmp_path))


def test_code_is_trusted_only_where_somebody_says_so():
    assert not any(entry.remote_code for entry in CATALOGUE.values())
    trusted = resolve("gpt2-xl", trust_remote_code=True)
    assert trusted.remote_code
    assert "*.py" in trusted.files
    assert "*.py" not in resolve("gpt2-xl").files
    with pytest.raises(ConfigError, match="has no code of its own"):
        resolve("tiny-llama", trust_remote_code=True)


def test_a_model_of_the_hub_is_named_with_its_commit():
    entry = resolve("someone/a-model@" + "0a" * 20)
    assert (entry.source, entry.location, entry.name) == ("hub", "someone/a-model", "a-model")
    assert entry.revision == "0a" * 20


@pytest.fixture
def folder(tmp_path):
    for name in ("config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_a_folder_is_known_by_the_files_that_are_read(folder):
    entry = resolve(str(folder))
    assert (entry.source, entry.location, entry.name) == ("path", str(folder), folder.name)
    (folder / "pytorch_model.bin").write_text("other")
    (folder / "README.md").write_text("other")
    assert resolve(str(folder)) == entry
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        before = resolve(str(folder)).revision
        (folder / name).write_text("{ }")
        assert resolve(str(folder)).revision != before, name


def test_a_folder_without_safetensors_is_no_model(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        resolve(str(folder))


def test_planning_loads_no_torch():
    code = (
        "import sys; import editsweep.model.catalogue as c; c.resolve('tiny-llama'); c.listing(); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
