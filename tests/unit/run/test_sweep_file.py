import pytest

from editsweep.core.types import Regime
from editsweep.errors import ConfigError
from editsweep.run.sweep import load_sweep, parse_sweep

GOOD = """
name: demo
models: [smollm2-135m, {name: gpt2-xl, token_budget: 512}]
editors:
  - none
  - {name: ft, layer: 21, grid: {rate: [5e-4, 1.0e-3]}, label: tuned}
datasets: [world, {name: world, split: train, limit: 3}]
regimes: [single, {batch: 4}]
seeds: [0, 1]
"""


def small(**changes):
    lines = {"name": "x", "models": "[a]", "editors": "[none]", "datasets": "[world]"} | changes
    return "\n".join(f"{key}: {value}" for key, value in lines.items() if value is not None)


def test_names_alone_stand_for_mappings():
    sweep = parse_sweep(GOOD)
    assert [m.name for m in sweep.models] == ["smollm2-135m", "gpt2-xl"]
    assert sweep.models[1].token_budget == 512
    assert sweep.editors[1].params == {"layer": 21}
    assert sweep.editors[1].grid == {"rate": [5e-4, 1e-3]}
    assert sweep.datasets[1].limit == 3
    assert sweep.regimes == [Regime(), Regime("batch", 4)]


def test_defaults():
    sweep = parse_sweep(small())
    assert (sweep.unit_size, sweep.seeds, sweep.regimes) == (16, [0], [Regime()])
    assert sweep.metrics.generate == ["reliability"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nname: y", "line 2: key 'name' again, first in line 1"),
        ("a: &b 1\nc: *b", "line 2: anchors"),
        ("a: !!python/object:os.system {}", "line 1: could not determine a constructor"),
        ("on: 1", "line 1: key True is not text"),
        ("a: [1", "line 1: "),
        ("[" * 5000, "not valid YAML"),
        ("- 1", "a sweep is a mapping"),
        ("", "a sweep is a mapping"),
        (small(model="[a]"), "model: unknown key 'model'; did you mean 'models'?"),
        (small(models=None), "models: Field required"),
        (
            small(datasets="[{nam: world}]"),
            "datasets[0].nam: unknown key 'nam'; did you mean 'name'?",
        ),
        (small(datasets="[{name: world, limit: '8'}]"), "datasets[0].limit: "),
        (small(datasets="[{name: world, limit: 0}]"), "datasets[0].limit: "),
        (small(regimes="[{batch: 1}]"), "regimes[0]: regime {'batch': 1}: write"),
        (small(seeds="['1']"), "seeds[0]: Input should be a valid integer (here: '1')"),
        (small(seeds="[true]"), "seeds[0]: "),
        (small(metrics="{axes: [reliabilty]}"), "metrics.axes[0]: "),
        (small(editors="[{name: ft, layer: 1, grid: {layer: [2]}}]"), "editors[0]: 'layer' stands"),
        (small(editors="[{name: ft, grid: {layer: []}}]"), "editors[0].grid.layer: "),
        (small(editors="[]"), "editors: "),
        (small(name="../x"), "name: sweep name '../x' cannot name a folder"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, told):
    with pytest.raises(ConfigError) as caught:
        parse_sweep(text, where="s.yaml")
    assert told in str(caught.value)
    assert str(caught.value).startswith("s.yaml")


def test_several_faults_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_sweep(small(seeds="[a]", unit_size="0"))
    assert "seeds[0]: " in str(caught.value)
    assert "unit_size: " in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("unit_size=4", lambda s: s.unit_size == 4),
        ("datasets[0].limit=8", lambda s: s.datasets[0].limit == 8),
        ("editors[1].steps=7", lambda s: s.editors[1].params.get("steps") == 7),
        ("editors[1].grid.rate=[1e-5]", lambda s: s.editors[1].grid["rate"] == [1e-5]),
        ("metrics.max_new_tokens=3", lambda s: s.metrics.max_new_tokens == 3),
        ("models[0]=tiny-llama", lambda s: s.models[0].name == "tiny-llama"),
    ],
)
def test_settings_replace_values(setting, found):
    assert not found(parse_sweep(GOOD))
    assert found(parse_sweep(GOOD, [setting]))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("unit_size", "write key=value"),
        ("datasets[5].limit=1", "[5] leads nowhere; there are 2 entries"),
        ("seeds[0].x=1", "there is no key 'x'"),
        ("a..b=1", "write key=value"),
        ("datasets.limit=1", "there is no key 'limit'"),
        ("unit_sise=1", "did you mean 'unit_size'?"),
    ],
)
def test_a_setting_that_leads_nowhere_is_refused(setting, told):
    with pytest.raises(ConfigError) as caught:
        parse_sweep(GOOD, [setting])
    assert told in str(caught.value)


def test_limit_is_for_all_datasets():
    assert [d.limit for d in parse_sweep(GOOD, limit=5).datasets] == [5, 5]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_sweep(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_sweep(tmp_path / "bad.yaml")
    (tmp_path / "big.yaml").write_text("#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than"):
        load_sweep(tmp_path / "big.yaml")
