"""A sweep's folder that is damaged, full, read-only or elsewhere: the same tables in the end."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from editsweep import __version__
from editsweep.cli.main import main
from editsweep.core import schema
from editsweep.errors import StoreError
from editsweep.run.drive import RunOptions, run_sweep
from editsweep.run.sweep import parse_sweep
from editsweep.store import store as store_module
from editsweep.store.store import SweepStore

EDITS = Path(__file__).parents[1] / "data" / "edits.jsonl"
SWEEP = f"""
name: t
models: [tiny-llama]
editors: [none, {{name: ft, steps: 1}}]
datasets: [{{name: "{EDITS}", limit: 4}}]
metrics: {{max_new_tokens: 2}}
unit_size: 2
"""


def run(folder, text=SWEEP):
    return run_sweep(parse_sweep(text), folder, RunOptions("inline", threads=1, record=False))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "t"
    assert run(folder).exit_code == 0
    return folder


def units(folder):
    return sorted((folder / "parts").iterdir())


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def manifest(folder, change):
    path = folder / "manifest.jsonl"
    path.write_text("".join(line + "\n" for line in change(path.read_text().splitlines())))


def lose_units(folder):
    """Nothing is committed any more, so what the unedited model said is wanted again."""
    (folder / "manifest.jsonl").unlink()


def bases(folder, change):
    lose_units(folder)
    for path in (folder / "base").iterdir():
        rewrite(path, change)


def torn_at_the_end(folder):
    path = folder / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-30])


def foreign(folder):
    shutil.copytree(units(folder)[0], folder / "parts" / ("f" * 32))


def swapped(folder):
    one, two = units(folder)[:2]
    one.rename(folder / "parts" / "x")
    two.rename(one)
    (folder / "parts" / "x").rename(two)


def stale(folder):
    manifest(folder, lambda lines: lines[:-1])
    for name in (".tmp/x.1.99/edits.arrow", ".tmp/plan.json.99", "base/.draft"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"half")
    (folder / ".leaderboard.csv.draft").write_text("half")


DAMAGE = {
    "cut part": lambda f: rewrite(units(f)[0] / "edits.arrow", lambda d: d[:-40]),
    "empty part": lambda f: (units(f)[0] / "answers.arrow").write_bytes(b""),
    "flipped bit": lambda f: rewrite(units(f)[1] / "measurements.arrow", flipped),
    "wrong schema": lambda f: shutil.copy(
        units(f)[2] / "edits.arrow", units(f)[2] / "answers.arrow"
    ),
    "missing part": lambda f: (units(f)[3] / "edits.arrow").unlink(),
    "missing unit": lambda f: shutil.rmtree(units(f)[0]),
    "swapped units": swapped,
    "foreign unit": foreign,
    "stale files": stale,
    "torn line": torn_at_the_end,
    "line twice": lambda f: manifest(f, lambda lines: [*lines, lines[0]]),
    "noise": lambda f: manifest(f, lambda lines: ["{", *lines, '{"unit_id": "../x"}']),
    "no manifest": lose_units,
    "base with a flipped bit": lambda f: bases(f, flipped),
    "base cut": lambda f: bases(f, lambda data: data[:-40]),
    "torn log": lambda f: rewrite(f / "progress.jsonl", lambda data: data[:-9]),
    "no plan": lambda f: (f / "plan.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_made_good_by_the_same_command(tmp_path, whole, damage, results):
    folder = tmp_path / "t"
    shutil.copytree(whole, folder)
    DAMAGE[damage](folder)
    assert run(folder).exit_code == 0
    assert results(folder) == results(whole)
    kept = SweepStore(folder).committed()
    assert len(kept) == 4
    again = run(folder)
    assert (again.exit_code, again.units_now) == (0, 0)


def test_other_content_of_the_same_dataset_is_refused_with_what_differs(tmp_path, results):
    data, folder = tmp_path / "own.jsonl", tmp_path / "t"
    lines = EDITS.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(lines[:2]))
    text = SWEEP.replace(str(EDITS), str(data)).replace("[none, ", "[").replace(", limit: 4", "")
    assert run(folder, text).exit_code == 0
    before = results(folder)
    data.write_text("".join(lines[1:3]))
    with pytest.raises(StoreError, match=r"another sweep(.|\n)*What differs:(.|\n)*\n-.*\n\+"):
        run(folder, text)
    assert results(folder) == before


def test_a_clock_that_runs_backwards_changes_nothing(tmp_path, whole, monkeypatch, results):
    hours = iter(range(10**6, 0, -1))
    monkeypatch.setattr(store_module, "_now", lambda: f"clock {next(hours):07}")
    assert run(tmp_path / "t").exit_code == 0
    assert results(tmp_path / "t") == results(whole)


def test_a_link_to_a_folder_stays_one(tmp_path, whole, results):
    (tmp_path / "far").mkdir()
    (tmp_path / "t").symlink_to(tmp_path / "far")
    assert run(tmp_path / "t").exit_code == 0
    assert (tmp_path / "t").is_symlink()
    assert results(tmp_path / "far") == results(whole)


@pytest.fixture
def disk(tmp_path):
    """A file system of its own of a given size, or a skip; `resize(options)` mounts it anew."""
    place, mount = tmp_path / "disk", shutil.which("mount")
    place.mkdir()

    def resize(options):
        command = [str(mount), "-o", f"remount,{options}", str(place)]
        subprocess.run(command, check=True, capture_output=True)

    first = ["-t", "tmpfs", "-o", "size=64k", "editsweep", str(place)]
    if os.geteuid() or not mount:
        pytest.skip("only root can mount a small disk")
    made = subprocess.run([mount, *first], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    yield place, resize
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_with_room_the_same_command_goes_on(disk, whole, results):
    place, resize = disk
    told = []
    for size in (16, 32, 64, 96, 144, 216, 324, 486, 729, 10_000):
        resize(f"size={size}k")
        try:
            result = run(place / "t")
        except StoreError as error:
            told.append(str(error))
            SweepStore(place / "t").committed()
            continue
        break
    assert result.exit_code == 0
    assert results(place / "t") == results(whole)
    assert len(set(told)) > 1
    assert all("No space left on device. Make room" in text for text in told), told


def command(monkeypatch, capsys, tmp_path, out):
    """The exit code and the message of `editsweep run`."""
    sweep = tmp_path / "t.yaml"
    sweep.write_text(SWEEP)
    words = ["run", str(sweep), "--out", str(out), "--executor", "inline", "--no-record"]
    monkeypatch.setattr(sys, "argv", ["editsweep", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code, capsys.readouterr().err


def test_a_disk_that_is_read_only_is_told(disk, whole, tmp_path, monkeypatch, capsys, results):
    place, resize = disk
    resize("size=10m")
    shutil.copytree(whole, place / "t")
    (place / "t" / "report.html").unlink()
    rewrite(place / "t" / "progress.jsonl", lambda data: b"")
    resize("ro")
    code, said = command(monkeypatch, capsys, tmp_path, place)
    assert (code, "Read-only file system" in said, "Traceback" in said) == (1, True, False)
    resize("rw")
    assert command(monkeypatch, capsys, tmp_path, place)[0] == 0
    assert results(place / "t") == results(whole)


def test_parts_on_another_disk_are_told(disk, tmp_path):
    place, resize = disk
    resize("size=10m")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "parts").symlink_to(place)
    with pytest.raises(StoreError, match=r"cannot keep unit .*cross-device link"):
        run(tmp_path / "t")
    assert SweepStore(tmp_path / "t").committed() == {}


@contextmanager
def nobody():
    """As a user to whom rights mean something."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_without_rights_is_told(tmp_path, whole, results):
    shutil.copytree(whole, tmp_path / "t")
    (tmp_path / "t" / "manifest.jsonl").chmod(0o000)
    tmp_path.chmod(0o500)
    with nobody(), pytest.raises(StoreError, match=r"Permission denied\. Make room or mend"):
        run(tmp_path / "t")
    tmp_path.chmod(0o700)
    (tmp_path / "t" / "manifest.jsonl").chmod(0o600)
    assert run(tmp_path / "t").units_now == 0
    assert results(tmp_path / "t") == results(whole)


ODD = [
    "a\x00b",
    "הבירה \u202eשל",
    "<script>alert(1)</script>",
    "=cmd()|x",
    "a\nb\tc",
    '"x",\'y',
    "x" * 10**6,
]


def test_odd_texts_come_back_as_they_were_from_arrow_to_the_page(tmp_path):
    data, folder = tmp_path / "own.jsonl", tmp_path / "t"
    rows = [
        {"subject": "Lyon", "prompt": f"{{}} {i} is in", "target_new": "Japan", "relation": text}
        | ({"probes": [{"axis": "locality", "prompt": f"x {text}"}]} if len(text) < 99 else {})
        for i, text in enumerate(ODD)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = SWEEP.replace(str(EDITS), str(data)).replace("limit: 4", "limit: 9")
    assert run(folder, text).exit_code == 0
    tables = SweepStore(folder).tables()
    assert set(tables["edits"]["relation"].to_pylist()) == set(ODD)
    asked = set(tables["answers"]["prompt"].to_pylist())
    assert {f"x {odd}" for odd in ODD[:-1]} <= asked
    assert "<script>alert" not in (folder / "report.html").read_text(encoding="utf-8")


def newer(folder):
    def change(lines):
        fields = json.loads(lines[0])
        return [json.dumps(fields | {"schema_version": schema.VERSION + 1}), *lines[1:]]

    manifest(folder, change)


def test_a_folder_of_a_newer_version_is_left_as_it_is(tmp_path, whole):
    folder = tmp_path / "t"
    shutil.copytree(whole, folder)
    newer(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
    told = r"manifest\.jsonl:1: written by a newer EditSweep .*Install that one"
    with pytest.raises(StoreError, match=told):
        run(folder)
    with pytest.raises(StoreError, match=told):
        SweepStore(folder).committed()
    assert all(path.read_bytes() == data for path, data in before.items())


def test_a_folder_of_another_version_of_the_code_says_which(tmp_path, whole, monkeypatch, results):
    folder = tmp_path / "t"
    shutil.copytree(whole, folder)
    monkeypatch.setattr("editsweep.run.plan.__version__", "99.0")
    told = rf"made by EditSweep {__version__} and this is 99\.0.*install {__version__}(.|\n)*\+"
    with pytest.raises(StoreError, match=told):
        run(folder)
    assert results(folder) == results(whole)
