"""What other programs may expect of a library: asked in fresh processes, from the repository root.

The root is the worst place to start from, because its `datasets/` folder has the name of a library.
"""

import ast
import json
import os
import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import editsweep
from editsweep.run import plain_yaml

ROOT = Path(__file__).parents[2]
TREE = ROOT / "tests" / "checks" / "tree.py"
FLOORS = ("core", "data", "metrics", "report", "store")
HEAVY = {"mlflow", "ray", "torch", "transformers"}


def python(code: str, *args: str) -> str:
    """What `code` prints in a new process whose warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "pipeline"), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def modules(package: str) -> list[str]:
    """The package and all modules below it, found without importing them."""
    folder = Path(editsweep.__file__).parent.joinpath(*package.split(".")[1:])
    below = [m for m in pkgutil.iter_modules([str(folder)]) if m.name != "__main__"]
    names = [package]
    for module in below:
        name = f"{package}.{module.name}"
        names += modules(name) if module.ispkg else [name]
    return names


SIDE_EFFECTS = """
import importlib, json, logging, os, random, signal, sys, threading
def state():
    root = logging.getLogger()
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "logging": [root.level, [repr(h) for h in root.handlers]],
        "random": hash(random.getstate()),
        "hooks": [sys.excepthook is sys.__excepthook__, repr(sys.displayhook)],
        "signals": [repr(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)],
        "path": list(sys.path),
        "threads": threading.active_count(),
    }
others, *ours = sys.argv[1:]
for name in others.split():
    importlib.import_module(name)
before = state()
for name in ours:
    importlib.import_module(name)
after = state()
print(json.dumps([key for key in before if before[key] != after[key]]))
"""

LOADED = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({m.split(".")[0] for m in sys.modules})))
"""

COMMAND = """
import contextlib, importlib.abc, io, json, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in {"mlflow", "ray", "torch", "transformers"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from editsweep.cli.main import main
sys.argv = ["editsweep", *sys.argv[1:]]
shown, code = io.StringIO(), 0
try:
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        main()
except SystemExit as end:
    code = end.code or 0
print(json.dumps([code, shown.getvalue()]))
"""


def command(*args: str) -> tuple[int, str]:
    """Exit code and output of the command line where the heavy libraries are not installed."""
    code, shown = json.loads(python(COMMAND, *args))
    return code, shown


# What libraries do that we use is not asked here: polars writes to the environment, rich draws a
# random number.
@pytest.mark.parametrize(
    ("floors", "others"),
    [
        (("core", "data", "metrics", "store"), "pyarrow"),
        (("model", "learn", "editors"), "torch transformers"),
        (("report",), "polars scipy.stats statsmodels.api matplotlib rich.style"),
        (("run", "cli"), "polars scipy.stats statsmodels.api torch transformers typer rich.style"),
    ],
)
def test_importing_changes_nothing(floors, others):
    names = [name for floor in floors for name in modules(f"editsweep.{floor}")]
    assert json.loads(python(SIDE_EFFECTS, others, *names)) == []


@pytest.mark.parametrize("floor", FLOORS)
def test_results_are_read_without_heavy_libraries(floor):
    loaded = json.loads(python(LOADED, *modules(f"editsweep.{floor}")))
    assert "editsweep" in loaded
    assert HEAVY.isdisjoint(loaded)


def test_the_engine_needs_no_cluster_and_no_tracker():
    floors = ("model", "learn", "editors")
    names = [name for floor in floors for name in modules(f"editsweep.{floor}")]
    loaded = json.loads(python(LOADED, *names))
    assert "torch" in loaded
    assert {"mlflow", "pandas", "polars", "pydantic", "ray", "typer"}.isdisjoint(loaded)


@pytest.mark.parametrize(
    "name",
    [(), ("report",), ("plan",), ("run",), ("status",), ("train",), ("trace",), ("rescore",)],
)
def test_help_needs_nothing_heavy(name):
    code, shown = command(*name, "--help")
    assert (code, "Usage" in shown) == (0, True)


def test_results_need_nothing_heavy(synthetic):
    sweep = synthetic()
    sweep.commit()
    code, shown = command("report", str(sweep.folder))
    assert code == 0, shown
    for name in ("leaderboard.csv", "report.html"):
        assert "rome" in (sweep.folder / name).read_text(encoding="utf-8")
    code, shown = command("rescore", str(sweep.folder))
    assert code == 0, shown
    assert (sweep.folder.parent / "demo-rescored" / "leaderboard.csv").is_file()


def test_what_is_missing_is_told_with_how_to_get_it():
    code, shown = command("edit", "The capital of {France} is", "--to", "Berlin")
    assert code == 2
    assert "pip install 'editsweep[engine]'" in shown


def test_the_data_folder_does_not_pass_for_the_library_of_that_name():
    code = "import importlib.util as u; s = u.find_spec('datasets'); print(s and s.origin)"
    assert str(ROOT / "datasets") not in python(code)


FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "torch.load", "torch.save", "os.system", "os.popen"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.unsafe_load_all"),
}


def dangers(text: str) -> list[str]:
    """What of a module could run code that came as data, or opens it to the network."""
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                found += [a.name for a in names if a.name.split(".")[0] in FORBIDDEN_MODULES]
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] in FORBIDDEN_MODULES:
                    found.append(module)
                full = [f"{module}.{a.name}" for a in names]
                found += [name for name in full if name in FORBIDDEN_CALLS]
            case ast.Name() | ast.Attribute() if ast.unparse(node) in FORBIDDEN_CALLS:
                found.append(ast.unparse(node))
            case ast.keyword(arg="shell", value=value) if ast.unparse(value) != "False":
                found.append("shell=True")
            case ast.keyword(arg="trust_remote_code", value=ast.Constant(value=True)):
                found.append("trust_remote_code=True")
            case ast.Constant(value="0.0.0.0" | "::"):
                found.append(node.value)
    return found


# Each with why it is none.
ALLOWED = {
    "launch/ray_jobs.py": ["0.0.0.0", "::"],  # refuses them
    "run/plain_yaml.py": ["yaml.load"],  # with a safe loader, see below
    "testing.py": ["pickle"],  # a spec there and back, as Ray would send it; reads nothing else
}


def test_nothing_runs_code_that_came_as_data():
    package = Path(editsweep.__file__).parent
    paths = sorted(package.rglob("*.py"))
    assert len(paths) > 100
    found = {str(p.relative_to(package)): dangers(p.read_text(encoding="utf-8")) for p in paths}
    assert {name: what for name, what in found.items() if what} == ALLOWED
    assert issubclass(plain_yaml._Loader, yaml.SafeLoader)


@pytest.mark.parametrize(
    "text",
    [
        *("import pickle", "import joblib.numpy_pickle", "from cloudpickle import dumps"),
        *("torch.load(path)", "from torch import save", "eval('1')", "exec(text)"),
        *("yaml.load(text, Loader=yaml.Loader)", "run('ls', shell=True)", "serve('0.0.0.0')"),
        *("load(x, trust_remote_code=True)", "run('ls', shell=asked)", "of = torch.save"),
    ],
)
def test_what_would_run_code_is_found(text):
    assert len(dangers(text)) == 1


def test_what_runs_no_code_is_left_alone():
    text = "yaml.safe_load(a); model.eval(); run(b, shell=False); load(c, trust_remote_code=d)"
    assert dangers(text) == []


def test_the_tree_is_in_shape():
    done = subprocess.run([sys.executable, TREE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("the tree is in shape\n", 0)


def test_a_tree_out_of_shape_is_told_line_by_line(tmp_path):
    wrong = {
        "datasets/__init__.py": "",
        "tests/unit/__init__.py": "",
        "tests/unit/cases.py": "def test_x(): pass\n",
        "jobs/sweeps/a.yaml": "seeds: [1]\nmodels: {x: 1, x: 2}\n",
        "pipeline/long.py": "x = 1\n" * 501,
        "pipeline/deep.py": "def f():\n" + "    x = 1\n" * 60,
        "docs/a.md": "look at /" + "home/me/notes\n",
    }
    for name, text in wrong.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, TREE, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    told = done.stdout.splitlines()
    assert sorted({line.split(":")[0] for line in told}) == sorted(wrong)
    assert "jobs/sweeps/a.yaml:2: key 'x' twice" in told


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as people get it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_has_one_top_level_name(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    info = f"editsweep-{editsweep.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"editsweep", info}
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_carries_types_data_and_licences(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"editsweep-{editsweep.__version__}.dist-info"
    assert {
        "editsweep/py.typed",
        "editsweep/_sweeps/demo.yaml",
        "editsweep/_train/mend-world.yaml",
        f"{info}/licenses/LICENSE",
        f"{info}/licenses/NOTICE",
    } <= names
    for folder, inside in (("datasets", "_datasets"), ("dashboards", "_dashboards")):
        files = [p for p in (ROOT / folder).rglob("*") if p.is_file()]
        assert files
        assert {f"editsweep/{inside}/{p.relative_to(ROOT / folder)}" for p in files} <= names


def test_the_wheel_finds_its_data_from_anywhere(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "from editsweep.data.root import datasets_root; print(datasets_root() / 'world')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "site" / "editsweep" / "_datasets" / "world")
