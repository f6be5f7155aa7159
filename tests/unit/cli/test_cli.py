"""The console script: what it prints, and its exit codes."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from editsweep import __version__
from editsweep.cli.main import main

ROOT = Path(__file__).parents[3]
EDITS = ROOT / "tests" / "data" / "edits.jsonl"
RUN = "from editsweep.cli.main import main; main()"


@pytest.fixture(scope="module")
def editsweep():
    """Runs a command in this process; its output, or its error output when `code` is not 0."""

    def run(*args, code=0):
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr("sys.argv", ["editsweep", *map(str, args)])
            try:
                main()
                found = 0
            except SystemExit as end:
                found = end.code or 0
        assert found == code, err.getvalue()
        return out.getvalue() or err.getvalue()

    return run


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "s.yaml"
    path.write_text(
        f"""
name: s
models: [tiny-llama]
editors: [none, {{name: ft, steps: 1}}]
datasets: [{{name: "{EDITS}", limit: 2}}]
metrics: {{max_new_tokens: 2}}
"""
    )
    return path


@pytest.fixture(scope="module")
def done(editsweep, sweep):
    """The folder of a sweep that was run."""
    args = ("--out", sweep.parent / "runs", "--executor", "inline", "--no-record")
    said = editsweep("run", sweep, *args)
    assert "4 edits, 0 failed" in said
    return sweep.parent / "runs" / "s"


def test_version_and_help(editsweep):
    assert editsweep("--version").strip() == __version__
    shown = editsweep("--help")
    commands = [
        "plan",
        "run",
        "submit",
        "job",
        "status",
        "report",
        "compare",
        "record",
        "rescore",
        "edit",
        "export",
        "ability",
        "trace",
        "datasets",
        "editors",
        "models",
        "doctor",
        "ui",
    ]
    assert [c for c in commands if c not in shown] == []


def test_submit_checks_first_and_a_dry_run_submits_nothing(editsweep, sweep, tmp_path):
    shown = editsweep("submit", sweep, "--to", "slurm", "--dry-run", "--with", "cpus=2")
    assert shown.startswith("#!/bin/bash\n#SBATCH --job-name=s-")
    assert "options=(--workers 2 --threads 1)" in shown
    for_run = ("--max-failures", "5%", "--unit-timeout", 600, "--metrics-port", 9464, "--no-record")
    shown = editsweep("submit", sweep, "--to", "slurm", "--dry-run", *for_run)
    given = "--no-record --max-failures 5% --unit-timeout 600 --metrics-port 9464"
    assert f"options=(--workers 1 --threads 1 {given})" in shown
    wrong = editsweep("submit", sweep, "--to", "slurm", "--set", "models=[nobody]", code=2)
    assert "nobody" in wrong
    assert "did you mean 'cpus'" in editsweep(
        *("submit", sweep, "--to", "slurm", "--with", "cpu=2"), code=2
    )


def test_plan(editsweep, sweep):
    made = json.loads(editsweep("plan", sweep, "--json"))
    assert [cell["label"] for cell in made["cells"]] == ["none", "ft"]
    small = editsweep("plan", sweep, "--limit", 1, "--set", "unit_size=1")
    assert "2 cells, 2 units, 2 edits" in small


def test_plan_counts_what_is_done_and_tells_the_time(editsweep, sweep, done):
    said = editsweep("plan", sweep, "--out", done.parent)
    assert said.count("this sweep") == 2
    assert "There already: 2 units, 0 assets, 1 slices" in said
    assert "Time: nothing is left to do" in said
    anew = ("plan", sweep, "--out", done.parent / "other", "--workers", 4)
    assert "on 4 workers (measured on cpu" in editsweep(*anew)
    made = json.loads(editsweep(*anew, "--json"))
    assert made["cached"]["units"] == 0
    assert (made["estimate"]["workers"], made["estimate"]["complete"]) == (4, True)
    assert made["estimate"]["cells"].keys() == {cell["cell_id"] for cell in made["cells"]}
    assert "--workers 0: write 1 or more" in editsweep("plan", sweep, "--workers", 0, code=2)


def test_run_goes_on_and_status_reports(editsweep, sweep, done):
    again = editsweep("run", sweep, "--out", done.parent, "--executor", "inline", "--no-record")
    assert "Nothing to do" in again
    found = json.loads(editsweep("status", done, "--json"))
    assert (found["state"], found["edits_done"]) == ("complete", 4)
    assert "complete" in editsweep("status", done)


def test_report(editsweep, done):
    before = (done / "leaderboard.csv").read_bytes()
    (done / "leaderboard.csv").unlink()
    found = json.loads(editsweep("report", done, "--json"))
    assert (done / "leaderboard.csv").read_bytes() == before
    assert {row["label"] for row in found["rows"]} == {"none", "ft"}
    assert "reliability" in editsweep("report", done)


def test_tables_of_what_the_model_did_not_know(editsweep, done):
    rows = json.loads(editsweep("report", done, "--known", "no", "--json"))["rows"]
    assert {row["asked"] for row in rows if row["axis"] == "reliability"} == {2}
    assert "did not know" in editsweep("report", done, "--known", "no")
    assert {row["asked"] for row in rows} >= {2}
    none = json.loads(editsweep("report", done, "--known", "yes", "--json"))["rows"]
    assert not any(row["asked"] for row in none)
    assert "A − B" in editsweep("compare", f"{done}:ft", "none", "--known", "no")
    assert "old fact was known" in editsweep(
        "compare", f"{done}:ft", "none", "--known", "yes", code=2
    )


@pytest.mark.filterwarnings("ignore")  # mlflow calls what SQLAlchemy is about to drop
def test_record(editsweep, done):
    found = json.loads(editsweep("record", done, "--json"))
    assert (found["recorded"], found["created"]) == (True, 3)
    assert (done.parent / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("status", "nowhere"), 1, "the folder of a sweep?"),
        (("report", "nowhere"), 1, "the folder of a sweep?"),
        (("record", "nowhere"), 1, "the folder of a sweep?"),
        (("rescore", "nowhere"), 1, "the folder of a sweep?"),
        (("rescore", "x", "--judge-model", "m"), 2, "belong to --judge URL"),
        (("rescore", "x", "--judge", "host/v1", "--judge-model", "m"), 2, "http://localhost"),
        (("rescore", "x", "--judge=http://h/v1", "--judge-prompt", "no"), 2, "cannot be read"),
        (("plan", "nowhere.yaml"), 2, "cannot be read"),
        (("edit", "{a} {b}", "--to", "c"), 2, "one pair of braces"),
        (("edit", "{a} is", "--to", "c", "--editor", "rom"), 2, "did you mean 'rome'?"),
        (("edit", "{a} is", "--to", "c", "--set", "layer"), 2, "write KEY=VALUE"),
        (("edit", "{a} is", "--to", "c", "--set", "layr=1"), 2, "did you mean 'layer'?"),
        (("edit", "{a} is", "--to", "c", "--model", "tiny-lama"), 2, "did you mean 'tiny-llama'?"),
        (("trace", "The tower is in"), 2, "braces, or name it with --subject"),
        (("trace", "--subject", "x"), 2, "write the prompt too"),
        (("trace", "{a} is", "--kinds", "mlp,atention"), 2, "did you mean 'attention'?"),
        (("trace", "--data", "known-1000"), 2, "known-1000@FILE"),
        (("datasets", "show", "worl"), 2, "did you mean 'world'?"),
        (("compare", "ft", "none"), 2, "write FOLDER:LABEL"),
        (("export", "gone", "--as", "lora", "--out", "x"), 2, "gone is not there"),
        (("export", EDITS, "--as", "lora", "--out", "x"), 1, "cannot be read as a patch file"),
        (("export", EDITS, "--as", "lora", "--out", "x", "--group", 1), 2, "--group belongs to"),
        (("export", EDITS, "--as", "lora", "--out", ROOT), 2, "is there already and not empty"),
        (("export", ROOT, "--as", "lora", "--out", "x", "--cell", "a"), 1, "has no plan.json"),
        (("export", ROOT, "--as=lora", "--out=x", "--edit=a", "--group=1"), 2, "keep one"),
        (("ability", "none", "--tasks", "arc_easy"), 2, "name the model with --model"),
        (("ability", "none", "--tasks", ", "), 2, "names no task"),
        (("ability", "gone", "--tasks", "arc_easy"), 1, "cannot be read as a patch file"),
        (("ui", "--out", "nowhere"), 1, "run or record a sweep first"),
        (("nothing",), 2, "No such command"),
    ],
)
def test_errors_are_messages_with_exit_codes(editsweep, args, code, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert told in " ".join(editsweep(*args, code=code).split())


def test_more_workers_than_cores_are_refused(editsweep, sweep, tmp_path):
    told = editsweep("run", sweep, "--out", tmp_path, "--workers", 4096, code=2)
    assert "4096 workers of 1 threads need 4096 cores" in told


def test_datasets(editsweep):
    assert "world" in editsweep("datasets")
    assert {"name": "lecture", "splits": ["all"], "needs_file": False} in json.loads(
        editsweep("datasets", "list", "--json")
    )
    card = json.loads(editsweep("datasets", "show", EDITS, "--json"))
    assert (card["records"], card["faults"]) == (8, {})
    assert "8 edits" in editsweep("datasets", "show", EDITS)


def test_a_published_set_is_read_from_a_file(editsweep, tmp_path):
    path = tmp_path / "zsre.json"
    records = [{"subject": "Lyon", "src": f"Is Lyon {i}?", "alt": "Jo"} for i in range(25)]
    records.append({"subject": "Oslo", "src": "Is it?", "alt": "Jo"})
    path.write_text(json.dumps(records), encoding="utf-8")
    card = json.loads(editsweep("datasets", "show", "zsre", "--path", path, "--json"))
    assert card == json.loads(editsweep("datasets", "show", f"zsre@{path}", "--json"))
    assert (card["name"], card["records"], card["left_out"]) == ("zsre", 26, {})
    assert card["faults"] == {"no_subject": 1}
    assert "and 6 more relations" in editsweep("datasets", "show", "zsre", "--path", path)
    assert f"kept: {path}:1: src: " in editsweep("datasets", "validate", f"zsre@{path}")
    assert "zsre@FILE" in editsweep("datasets", "validate", "zsre", code=2)


def test_what_is_known_of_a_published_set_is_shown_without_a_file(editsweep, tmp_path, monkeypatch):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path))
    shown = editsweep("datasets", "show", "wikibio")
    assert "not read" in shown
    assert "00933f69b47d" in shown
    assert "datasets fetch wikibio" in shown
    card = json.loads(editsweep("datasets", "show", "wikibio", "--json"))
    assert (card["records"], card["manifest"]["axes"]) == (None, ["reliability", "locality"])
    assert "not on the hub" in editsweep("datasets", "fetch", "known-1000", code=2)


def test_convert_writes_the_same_edits_in_our_format(editsweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = {"subject": "Lyon", "prompt": "Lyon is in", "target_new": "Japan", "ground_truth": "A"}
    records = [made, {**made, "target_new": "Peru"}, {**made, "subject": "Oslo"}]
    path = tmp_path / "flat.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    told = editsweep("datasets", "convert", path, "--as", "counterfact-flat")
    assert "counterfact-flat.jsonl: 3 edits, 2 faults" in told
    assert f"kept: {path}:1: " in told
    before = json.loads(editsweep("datasets", "show", f"counterfact-flat@{path}", "--json"))
    after = json.loads(editsweep("datasets", "show", "counterfact-flat.jsonl", "--json"))
    assert before["digests"] == after["digests"]
    assert after["faults"] == {"contradiction": 1}
    again = editsweep("datasets", "convert", path, "--as", "counterfact-flat", code=2)
    assert "is there already" in again
    path.write_text(json.dumps([*records, {}]), encoding="utf-8")
    out = ("--out", "b.jsonl")
    bad = ("datasets", "convert", path, "--as", "counterfact-flat", *out)
    assert "missing 1" in editsweep(*bad, code=2)
    assert not Path("b.jsonl").exists()
    told = json.loads(editsweep(*bad, "--skip-bad", "--json"))
    assert told["faults"] == {"contradiction": 1, "missing": 1, "no_subject": 1}


def test_validate_names_each_fault(editsweep, tmp_path):
    assert "no faults" in editsweep("datasets", "validate", EDITS)
    bad = tmp_path / "bad.jsonl"
    bad.write_text(EDITS.read_text() + '{"subject": "x", "prompt": "y is", "target_new": "z"}\n')
    assert "bad.jsonl:9: " in editsweep("datasets", "validate", bad, code=2)
    bad.write_text('{"a": \n[]\n', encoding="utf-8")
    told = editsweep("datasets", "validate", bad, code=2)
    assert "2 faults (invalid_json 1, wrong_type 1)" in told


def test_editors_and_models(editsweep):
    editors = {row["name"]: row for row in json.loads(editsweep("editors", "--json"))}
    assert editors["rome"]["regimes"] == ["sequential", "single"]
    assert editors["ft"]["hyperparameters"]["steps"] == 25
    assert "rome" in editsweep("editors")
    models = {row["name"] for row in json.loads(editsweep("models", "--json"))}
    assert {"smollm2-135m", "tiny-llama"} <= models
    assert "smollm2-135m" in editsweep("models")


def test_doctor_says_what_is_here_and_how_to_get_the_rest(editsweep, tmp_path, monkeypatch):
    def look_up(name):
        if name == "mlflow":
            raise PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path))
    monkeypatch.setattr("editsweep.cli.doctor.version", look_up)
    found = {f["name"]: f for f in json.loads(editsweep("doctor", "--json", code=1))}
    assert (found["torch"]["status"], found["torch"]["detail"]) == ("ok", "1.2.3")
    assert (found["mlflow"]["status"], found["mlflow"]["detail"]) == (
        "missing",
        "pip install 'editsweep[mlflow]'",
    )
    assert found["cores"]["detail"] == str(len(os.sched_getaffinity(0)))
    assert str(tmp_path) in found["cache"]["detail"]
    assert "missing" in editsweep("doctor", code=1)


def test_one_edit_at_the_terminal(editsweep, tmp_path, monkeypatch):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path))
    args = ("edit", "{Lyon} is in", "--to", "Japan", "--editor", "ft", "--model", "tiny-llama")
    found = json.loads(editsweep(*args, "--set", "steps=2", "--json"))
    assert (found["subject"], found["steps"], found["error"]) == ("Lyon", 2, "")
    shown = editsweep(*args)
    assert "before" in shown
    assert "locality" in shown


def test_an_edit_is_saved_and_exported(editsweep, tmp_path, monkeypatch):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path / "cache"))
    path, args = tmp_path / "p" / "lyon.safetensors", ("edit", "{Lyon} is in", "--to", "Japan")
    made = (*args, "--editor", "ft", "--set", "steps=2", "--model", "tiny-gpt2", "--save", path)
    assert f"The patch is in {path}" in " ".join(editsweep(*made).split())
    assert "is there already: choose another --save" in editsweep(*made, code=2)
    export = ("export", path, "--out")
    cut = (*export, tmp_path / "l", "--as", "lora", "--rank", "1")
    shown = editsweep(*cut)
    assert "of the change (Frobenius norm)" in shown
    assert "adapter_model.safetensors" in shown
    assert (
        f"PeftModel.from_pretrained(load('tiny-gpt2', dtype='float32').module, '{tmp_path}/l')"
        in (shown)
    )
    told = json.loads(editsweep(*export, tmp_path / "c", "--as", "checkpoint", "--json"))
    assert (told["form"], told["relative_error"], told["notes"]) == ("checkpoint", None, [])
    assert told["files"]["model.safetensors"] == (tmp_path / "c/model.safetensors").stat().st_size
    again = json.loads(editsweep(*args, "--editor", "none", "--model", tmp_path / "c", "--json"))
    assert again["error"] == ""


def test_a_failed_edit_saves_nothing(editsweep, tmp_path):
    path = tmp_path / "x.safetensors"
    args = ("edit", "Lyon is in", "--to", "Japan", "--model", "tiny-llama", "--save", path)
    said = editsweep(*args, "--set", "moment=identity", code=1)
    assert "no_subject" in said
    assert not path.exists()


def test_two_cells_are_compared(editsweep, done):
    rows = json.loads(editsweep("compare", f"{done}:ft", "none", "--all", "--json"))
    assert {row["axis"] for row in rows} >= {"reliability", "locality"}
    assert all(row["n"] > 0 and 0 < row["p"] <= row["p_holm"] <= 1 for row in rows)
    assert "A − B" in editsweep("compare", f"{done}:ft", f"{done}:none")


def test_a_run_is_measured_anew(editsweep, done, tmp_path):
    found = json.loads(editsweep("rescore", done, "--out", tmp_path / "new", "--json"))
    assert (found["units_now"], found["units_missing"], found["carried"]) == (2, 0, 0)
    name = "leaderboard.csv"
    assert (tmp_path / "new" / name).read_bytes() == (done / name).read_bytes()
    assert "Nothing to do" in editsweep("rescore", done, "--out", tmp_path / "new")
    assert "complete" in editsweep("status", tmp_path / "new")
    rows = editsweep("compare", f"{done}:ft", f"{tmp_path / 'new'}:ft", "--json")
    assert all(row["difference"] == 0 for row in json.loads(rows))
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "Measured anew" in page


def test_a_cell_of_a_sweep_is_exported(editsweep, done, tmp_path):
    args = ("export", done, "--cell", "ft", "--group", 1, "--data", EDITS, "--json")
    told = json.loads(editsweep(*args, "--as", "patch", "--out", tmp_path / "p"))
    assert told["files"].keys() == {"README.md", "patch.safetensors"}
    assert "Kyoto is in" in (tmp_path / "p" / "README.md").read_text()


def test_the_forms_of_the_command_are_those_that_there_are():
    from editsweep.cli.export import Form
    from editsweep.model.export import FORMS

    assert [form.value for form in Form] == list(FORMS)


def test_a_prompt_is_traced(editsweep, tmp_path):
    common = ("--model", "tiny-llama", "--samples", "2", "--no-record")
    out = ("--out", tmp_path / "t")
    found = json.loads(editsweep("trace", "The {Eiffel Tower} is in", *common, *out, "--json"))
    assert (found["facts"], found["found"], len(found["peaks"])) == (1, 0, 3)
    args = ("trace", "The Eiffel Tower is in", "--subject", "Eiffel Tower")
    shown = editsweep(*args, *common, *out)
    assert "1 of 1 facts were traced before" in shown
    assert "trace.html" in shown
    assert (tmp_path / "t" / "trace.html").is_file()


def test_train_and_find_it_again(editsweep, tmp_path, monkeypatch):
    monkeypatch.setenv("EDITSWEEP_CACHE", str(tmp_path / "cache"))
    spec = tmp_path / "t.yaml"
    spec.write_text(
        """
name: t
model: tiny-llama
editor: {name: mend, network: {blocks: 1, rank: 4}, training: {steps: 9, every: 2, models: 2,
  validate: 4, observe: 4, records: 60}}
dataset: world
"""
    )
    args = ("train", spec, "--no-record", "--set", "editor.training.steps=2")
    shown = editsweep(*args)
    assert "Training mend for tiny-llama on 1 worker" in shown
    assert "locality" in shown
    found = json.loads(editsweep(*args, "--json"))
    assert (found["found"], found["steps"], found["name"]) == (True, 2, "t")
    assert found["records"]["train"] + found["records"]["test"] <= 60
    assert "Nothing to do" in editsweep(*args)
    told = editsweep(*args, "--workers", "2", "--executor", "inline", "--set", "name=u")
    assert "Nothing to do" in told
    lone = ("--workers", "2", "--executor", "inline", "--set", "editor.training.seed=1")
    assert "--executor inline is one worker" in editsweep(*args, *lone, code=2)
    assert "mend has no trained network" in editsweep(
        *("edit", "{Lyon} is in", "--to", "Japan", "--editor", "mend", "--model", "tiny-llama"),
        code=2,
    )


def test_a_missing_extra_is_named(sweep, tmp_path):
    code = f"""
import sys
sys.modules["ray"] = None
sys.argv = ["editsweep", "run", {str(sweep)!r}, "--out", {str(tmp_path)!r}]
{RUN}
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "pipeline")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'editsweep[ray]'" in done.stderr
