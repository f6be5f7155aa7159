"""The shape of the tree: what no linter looks at. Run as a script, prints one line a fault.

The data folders hold no Python and no test folder is a package (a folder named `datasets` on the
path would shadow the library of that name); no YAML file repeats a key; files and functions stay
short; no file names a folder of somebody's machine.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DATA_FOLDERS = ("dashboards", "datasets", "jobs")
CODE_FOLDERS = ("pipeline", "tests")
FILE_LINES = 500
FUNCTION_LINES = 60
HOME = re.compile(r"(?<![\w.:/$}~-])/(?:home|root|users|work|opt|mnt|tmp)/\w", re.IGNORECASE)
TEXT = {".cfg", ".csv", ".html", ".j2", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml"}


def files(root: Path, *folders: str, suffix: str = "") -> Iterator[Path]:
    """Every file below `folders` that is not a cache, sorted."""
    for folder in folders:
        for path in sorted((root / folder).rglob(f"*{suffix}")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def stray_python(root: Path) -> Iterator[str]:
    """Python in a data folder, packages among the tests, tests that pytest would not collect."""
    for path in files(root, *DATA_FOLDERS, suffix=".py"):
        yield f"{path.relative_to(root)}: no Python in a data folder"
    for path in files(root, "tests", suffix="__init__.py"):
        yield f"{path.relative_to(root)}: a test folder is not a package"
    for path in files(root, "tests", suffix=".py"):
        if re.search(r"^def test_", path.read_text(), re.MULTILINE) and path.name[:5] != "test_":
            yield f"{path.relative_to(root)}: pytest does not collect it, name it test_*.py"


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that has the same key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, (mark, _) in zip(keys, node.value, strict=True):
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(None, None, f"key {key!r} twice", mark.start_mark)
        return super().construct_mapping(node, deep)


def bad_yaml(root: Path) -> Iterator[str]:
    """YAML that cannot be read, or has a key twice."""
    for suffix in (".yaml", ".yml"):
        for path in files(root, *DATA_FOLDERS, *CODE_FOLDERS, suffix=suffix):
            try:
                list(yaml.load_all(path.read_text(), Loader=_UniqueKeys))
            except yaml.MarkedYAMLError as error:
                line = error.problem_mark.line + 1 if error.problem_mark else 1
                yield f"{path.relative_to(root)}:{line}: {error.problem}"


def too_long(root: Path) -> Iterator[str]:
    """Files and functions that want to be split."""
    for path in files(root, *CODE_FOLDERS, suffix=".py"):
        text = path.read_text()
        if (lines := text.count("\n")) > FILE_LINES:
            yield f"{path.relative_to(root)}: {lines} lines, at most {FILE_LINES}"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    where = f"{path.relative_to(root)}:{node.lineno}"
                    yield f"{where}: {node.name} has {length} lines, at most {FUNCTION_LINES}"


def machine_paths(root: Path) -> Iterator[str]:
    """Absolute paths into somebody's folders."""
    tops = [p for p in sorted(root.iterdir()) if p.is_file()]
    for path in [*tops, *files(root, *DATA_FOLDERS, *CODE_FOLDERS, "docs", ".ci")]:
        if path.suffix in TEXT or path.name in {"Makefile", "run"}:
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if found := HOME.search(line):
                    yield f"{path.relative_to(root)}:{number}: path of a machine {found[0]!r}"


CHECKS = (stray_python, bad_yaml, too_long, machine_paths)


def faults(root: Path) -> list[str]:
    """Everything that is wrong below `root`, one line each."""
    return [fault for check in CHECKS for fault in check(root)]


if __name__ == "__main__":
    found = faults(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2])
    print("\n".join(found) or "the tree is in shape")
    sys.exit(bool(found))
