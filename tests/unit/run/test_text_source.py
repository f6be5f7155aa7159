import pytest

from editsweep.core.types import Corpus
from editsweep.errors import DataError
from editsweep.model.tiny import tiny_model
from editsweep.run.assets import make_asset
from editsweep.run.plan import make_plan
from editsweep.run.resolve import Source, resolve
from editsweep.run.sweep import parse_sweep

LINES = ["The capital of France is Paris.", "", "  東京是日本的首都。 "] * 40


def plan(path):
    return make_plan(
        resolve(
            parse_sweep(
                "name: t\nmodels: [tiny-llama]\ndatasets: [{name: world, limit: 2}]\n"
                f"editors: [{{name: rome, moment: '{path}', layer: 1}}]\n"
            )
        )
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


def test_a_text_file_is_a_corpus_of_its_lines(path):
    corpus, digest = Source(str(path), "test").corpus()
    assert corpus == Corpus(texts=("The capital of France is Paris.", "東京是日本的首都。") * 40)
    path.write_text("Other text.", encoding="utf-8")
    assert Source(str(path), "test").corpus()[1] != digest


def test_a_second_moment_is_taken_from_it(path):
    (recipe,) = [n.recipe for n in plan(path).assets.values() if n.recipe.source]
    asset = make_asset(recipe, tiny_model())
    assert asset.tensors["moment.1"].shape == (64, 64)
    path.write_text("Other text.", encoding="utf-8")
    with pytest.raises(DataError, match="other records"):
        make_asset(recipe, tiny_model())


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"  \n\n"])
def test_what_cannot_be_read_is_refused_when_planning(tmp_path, content):
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.txt"):
        plan(path)
