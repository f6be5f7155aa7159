import json
from pathlib import Path

import pytest

from editsweep.errors import ConfigError
from editsweep.run.plan import make_plan
from editsweep.run.resolve import resolve
from editsweep.run.sweep import parse_sweep

EDITS = Path(__file__).parents[2] / "data" / "edits.jsonl"


def plan(settings=(), text=None):
    return make_plan(resolve(parse_sweep(text or SWEEP, settings)))


SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: ft, grid: {{steps: [25, 3]}}}}]
datasets: ["{EDITS}"]
unit_size: 3
"""


def test_units_cover_each_cell_once_and_in_order():
    made = plan()
    for cell_id in made.cells:
        slices = [(u.start, u.stop) for u in made.units if u.cell_id == cell_id]
        assert slices == [(0, 3), (3, 6), (6, 8)]
    assert len({u.unit_id for u in made.units}) == len(made.units) == 9


def test_the_same_sweep_gives_the_same_plan():
    assert plan().to_json() == plan().to_json()
    json.dumps(plan().to_json(), allow_nan=False)


def test_cells_do_not_depend_on_their_neighbours_or_on_unit_size():
    alone = plan(["editors=[none]"])
    assert set(alone.cells) <= set(plan().cells)
    assert set(plan(["unit_size=1"]).cells) == set(plan().cells)
    assert plan(["unit_size=1"]).sweep_id != plan().sweep_id


@pytest.mark.parametrize(
    "setting",
    [
        "seeds=[1]",
        "editors[0]={name: rome, moment: identity}",
        "metrics.max_new_tokens=2",
        "models[0]=tiny-gpt2",
        "models=[{name: tiny-llama, dtype: float16}]",
        "datasets[0].limit=7",
    ],
)
def test_what_decides_results_is_in_the_cell_id(setting):
    first, changed = next(iter(plan().cells)), plan([setting]).cells
    assert first not in changed


def test_memory_is_not_part_of_the_sweep():
    small = plan(["models=[{name: tiny-llama, token_budget: 64}]"])
    assert small.sweep_id == plan().sweep_id
    assert next(iter(small.cells.values())).model.token_budget == 64


def test_groups_are_never_split():
    made = plan(["regimes=[{batch: 4}]"])
    assert {(u.start, u.stop) for u in made.units} == {(0, 4), (4, 8)}
    uneven = plan(["regimes=[{batch: 3}]", "unit_size=7"])
    unit = uneven.units[-1]
    assert (unit.start, unit.stop) == (6, 8)
    assert [len(group) for group in uneven.groups(unit)] == [2]


def test_a_sequence_is_cut_at_its_checkpoints():
    made = plan(["regimes=[{sequential: {size: 1, every: 4, sample: 2}}]"])
    for cell_id in made.cells:
        first, second = (u for u in made.units if u.cell_id == cell_id)
        assert ((first.start, first.stop), (second.start, second.stop)) == ((0, 4), (4, 8))
        assert second.after == first.unit_id
        assert [len(group) for group in made.groups(second)] == [1] * 4
        assert {r.edit_id for r in made.again(second)} <= {
            r.edit_id for group in made.groups(first) for r in group
        }
    assert set(made.cells).isdisjoint(plan(["regimes=[{sequential: {every: 4}}]"]).cells)


CONFLICT = """{"subject": "Lyon", "prompt": "{} is in", "target_new": "Peru", "relation": "r"}
{"subject": "Oslo", "prompt": "{} is in", "target_new": "Peru", "relation": "r"}
{"subject": "LYON", "prompt": "{} lies in", "target_new": "Japan", "relation": "r"}
"""


def test_edits_that_contradict_each_other_are_told(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(CONFLICT)
    regimes = "[single, {batch: 2}, {batch: 3}, {sequential: {every: 2}}]"
    made = plan([f"datasets=['{path}']", f"regimes={regimes}", "editors=[none, ft]"])
    at_once, one_by_one = made.conflicts
    told = "the first: 'Lyon is in' to 'Peru', later 'LYON lies in' to 'Japan'"
    assert at_once.endswith(told)
    assert "own in batch:3: 1 edits fail as `superseded`" in at_once
    assert "in sequential:1/2: 1 edits are overwritten" in one_by_one
    assert one_by_one.endswith(told)
    steps = plan([f"datasets=['{path}']", "regimes=[{sequential: {size: 3, every: 3}}]"])
    (line,) = steps.conflicts
    assert "fail as `superseded`" in line


def test_base_answers_are_shared_by_editors_and_regimes():
    made = plan(["regimes=[single, {batch: 4}]"])
    assert len(made.bases) == 3
    (second,) = {u.needs for u in made.units if (u.start, u.stop) == (4, 8)}
    assert second == tuple(made.bases)[1:]


def test_assets_are_shared_by_the_cells_that_need_the_same():
    made = plan(["editors=[{name: rome, moment: identity, grid: {steps: [2, 3]}}]"])
    assert len(made.assets) == 1
    assert all(set(made.assets) <= set(unit.needs) for unit in made.units)


def test_labels_tell_what_differs():
    labels = [cell.label for cell in plan().cells.values()]
    assert labels == ["none", "ft", "ft steps=3"]
    many = plan(["seeds=[0, 1]", "editors=[none, {name: ft, label: tuned, grid: {steps: [2]}}]"])
    assert {cell.label for cell in many.cells.values()} == {
        "none · seed 0",
        "none · seed 1",
        "tuned steps=2 · seed 0",
        "tuned steps=2 · seed 1",
    }


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            ["editors=[{name: rome, moment: identity}]", "regimes=[{batch: 2}]"],
            "rome cannot edit in the regime `batch:2`; it can: sequential, single. `batch` can be "
            "done by none, ft, ",
        ),
        (["editors=[none, none]"], "would be done twice"),
        (["seeds=[0, 0]"], "would be done twice"),
        (
            ["editors=[{name: ft, label: a}, {name: none, label: a}]"],
            "two cells have the label 'a'",
        ),
        (["editors=[{name: ike}]"], "no train split to learn from"),
        (["editors=[rom]"], "did you mean 'rome'?"),
        (["editors=[{name: ft, layr: 1}]"], "editors[0].layr: unknown hyperparameter of ft 'layr'"),
        (["editors=[{name: ft, steps: 2.5}]"], "editors[0].steps: "),
        (["editors=[{name: ft, steps: '2'}]"], "editors[0].steps: "),
        (["editors=[{name: ft, steps: 0}]"], "editors[0]: ft: steps"),
        (["editors=[{name: ft-w, objective: x}]"], "editors[0].objective: "),
        (["models=[tiny-lama]"], "did you mean 'tiny-llama'?"),
        (["datasets=[worl]"], "did you mean 'world'?"),
        (["datasets[0].split=dev"], "dev"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(settings, told):
    with pytest.raises(ConfigError) as caught:
        plan(settings)
    assert told in str(caught.value)


def test_whole_numbers_do_for_hyperparameters_that_are_not_whole():
    made = plan(["editors=[{name: ft, rate: 1, clamp: 2}]"])
    (cell,) = made.cells.values()
    assert cell.editor.params["rate"] == 1.0


def test_only_the_chosen_axes_are_asked():
    made = plan(["metrics.axes=[locality]"])
    (base, *_) = made.bases.values()
    assert {p.axis for r in base.requests for p in r.all_probes} == {"reliability", "locality"}


def cases(path, names):
    lines = [
        json.dumps({"subject": f"s{i}", "prompt": "{} is", "target_new": "t", "case": name})
        for i, name in enumerate(names)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return f"datasets=['{path}']"


def test_a_case_is_one_group_whoever_edits_it(tmp_path):
    rome = "editors=[none, {name: rome, moment: identity}]"
    made = plan([cases(tmp_path / "own.jsonl", "aabbbc"), rome])
    for cell_id in made.cells:
        units = [u for u in made.units if u.cell_id == cell_id]
        assert [[len(g) for g in made.groups(u)] for u in units] == [[2], [3], [1]]


def test_what_cannot_be_done_with_cases_is_refused(tmp_path):
    ike = "editors=[none, {name: ike, corpus: 'world:train', demonstrations: 0}]"
    with pytest.raises(ConfigError, match=r"editors\[1\]: ike makes one edit in a model, and case"):
        plan([cases(tmp_path / "own.jsonl", "xaab"), ike])
    plan([cases(tmp_path / "own.jsonl", "xab"), ike])
    with pytest.raises(ConfigError, match="case 'a' of 'own' do not follow each other"):
        plan([cases(tmp_path / "own.jsonl", "aba")])
