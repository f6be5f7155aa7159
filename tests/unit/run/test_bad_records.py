import json

import pytest

from editsweep.errors import DataError
from editsweep.run.plan import make_plan
from editsweep.run.resolve import resolve
from editsweep.run.sweep import parse_sweep

GOOD = {"subject": "Lyon", "prompt": "{} lies in the country of", "target_new": "Japan"}
BAD = {**GOOD, "subject": "Munich", "target_new": ""}


@pytest.fixture
def sweep(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (GOOD, BAD)), encoding="utf-8")
    return f"name: t\nmodels: [tiny-llama]\neditors: [none]\ndatasets: ['{path}']\n"


def test_bad_records_are_refused_with_their_place(sweep):
    with pytest.raises(DataError, match=r"mine.jsonl.*target_new"):
        resolve(parse_sweep(sweep))


def test_left_out_records_are_counted_and_named(sweep):
    plan = make_plan(resolve(parse_sweep(sweep, skip_bad=True)))
    (line,) = plan.left_out
    assert line.startswith("mine: 1 bad records are left out")
    (cell,) = plan.to_json()["cells"]
    assert (cell["edits"], cell["left_out"]) == (1, 1)


def test_clean_data_have_no_such_line(sweep):
    clean = parse_sweep(sweep.replace(sweep[sweep.index("datasets") :], "datasets: [lecture]\n"))
    assert make_plan(resolve(clean)).left_out == []
