"""The files of a report: the same bytes for the same parts, safe in a browser and a spreadsheet."""

import csv
import html.parser
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from editsweep.core import schema
from editsweep.errors import ConfigError, StoreError
from editsweep.report.html import TEMPLATE, template_folder
from editsweep.report.results import Results
from editsweep.report.write import csv as to_csv
from editsweep.report.write import read_plan, write_report

EVIL = "<script>alert(1)</script>=1+1\n\u202e{{ 7*7 }}"


def made(sweep: Any) -> dict[str, bytes]:
    write_report(sweep.folder, Results.of(sweep.plan, sweep.commit([]).tables()))
    names = ("leaderboard.csv", "timings.csv", "report.html")
    return {name: (sweep.folder / name).read_bytes() for name in names}


def test_the_order_of_commits_gives_the_same_bytes(synthetic: Callable[..., Any]) -> None:
    one, two = synthetic("one"), synthetic("two")
    one.commit()
    two.commit(reversed(list(two.units)))
    first = made(one)
    assert first == made(one) == made(two)


def test_the_size_of_units_does_not_change_the_leaderboard(synthetic: Callable[..., Any]) -> None:
    one, two = synthetic("one", unit_size=1), synthetic("two", unit_size=16)
    one.commit()
    two.commit()
    assert made(one)["leaderboard.csv"] == made(two)["leaderboard.csv"]


def test_a_part_of_a_sweep_says_so(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    sweep.commit(list(sweep.units)[:6])
    page = made(sweep)["report.html"].decode()
    assert "<strong>Not complete.</strong> 100 edits are not recorded yet" in page
    rows = list(csv.DictReader((sweep.folder / "leaderboard.csv").read_text().splitlines()))
    assert len({row["cell_id"] for row in rows}) == 4
    assert {row["missing"] for row in rows} == {"0", "20", "40"}
    assert all(row["mean"] == "" for row in rows if row["missing"] == "40")


def test_known_and_unknown_facts_have_tables_of_their_own(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    tables = sweep.commit().tables()
    page = write_report(sweep.folder, Results.of(sweep.plan, tables))[1].read_text(encoding="utf-8")
    counts = {}
    for of in ("", "-known", "-unknown"):
        for name in ("leaderboard", "facets"):
            text = (sweep.folder / f"{name}{of}.csv").read_text(encoding="utf-8")
            rows = list(csv.DictReader(text.splitlines()))
            assert ("facet" in rows[0]) is (name == "facets")
            counts[of, name] = max(int(row["asked"]) for row in rows)
    assert [counts[of, "leaderboard"] for of in ("", "-known", "-unknown")] == [40, 26, 14]
    assert counts["-known", "facets"] == 26
    ids = re.findall(r'<details id="([^"]+)"', page)
    assert ids == ["facets-known", "facets-unknown", "full", "full-known", "full-unknown"]


def test_without_old_targets_there_is_nothing_to_know(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic("none", edits=4)
    tables = sweep.commit().tables()
    place = tables["edits"].schema.get_field_index("known")
    nobody = pa.nulls(tables["edits"].num_rows, pa.bool_())
    tables["edits"] = tables["edits"].set_column(place, schema.EDITS.field("known"), nobody)
    page = write_report(sweep.folder, Results.of(sweep.plan, tables))[1].read_text(encoding="utf-8")
    assert 'id="full-known"' not in page
    assert not list(sweep.folder.glob("*known.csv"))


def test_faults_of_the_records_are_told(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    sweep.plan["cells"][0] |= {"left_out": 3, "noted": {"no_op": 2, "no_subject": 1}}
    page = made(sweep)["report.html"].decode()
    assert "3 bad records left out" in page
    assert "kept with a fault: 2 no_op, 1 no_subject" in page


def test_a_sweep_without_results_has_a_report(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    sweep.commit([])
    page = made(sweep)["report.html"].decode()
    assert "0 of 160 planned edits are recorded" in page
    assert "<svg" not in page


def test_leaderboard_holds_nothing_that_was_timed(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic(edits=4)
    tables = sweep.commit().tables()
    board, _ = write_report(sweep.folder, Results.of(sweep.plan, tables))
    before, clock = board.read_bytes(), (sweep.folder / "timings.csv").read_bytes()
    slower = pa.array([9.0] * tables["edits"].num_rows)
    place = tables["edits"].schema.get_field_index("edit_s")
    tables["edits"] = tables["edits"].set_column(place, schema.EDITS.field("edit_s"), slower)
    write_report(sweep.folder, Results.of(sweep.plan, tables))
    assert board.read_bytes() == before
    assert (sweep.folder / "timings.csv").read_bytes() != clock


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_text_of_data_stays_text(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    tables = sweep.commit().tables()
    for kind, names in (
        ("edits", ("prompt", "target_new", "error_text", "error_kind")),
        ("answers", ("prompt", "text", "pre_said", "post_said")),
        ("measurements", ("facet",)),
    ):
        for name in names:
            place = tables[kind].schema.get_field_index(name)
            column = pa.array([EVIL] * tables[kind].num_rows)
            field = schema.PARTS[kind].field(name)
            tables[kind] = tables[kind].set_column(place, field, column)
    sweep.plan["name"] = sweep.plan["cells"][0]["label"] = EVIL
    sweep.plan["cells"][0]["params"] = {"x": EVIL}
    sweep.commit([])
    board, path = write_report(sweep.folder, Results.of(sweep.plan, tables))
    text = path.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert "{{ 7*7 }}" in text
    links = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href", "xlink:href")]
    assert all(v is not None and v.startswith(("#", "data:")) for v in links)
    assert "url(http" not in text
    policy = next(a for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy["content"])
    assert not re.search(r"\bon\w+=", "".join(f" {k}=" for _, a in page.tags for k in a))
    with board.open(encoding="utf-8", newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == {EVIL, "ft", "rome", "ike"}


def test_the_page_says_what_was_done_to_the_patches(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic()
    tables = sweep.commit().tables()
    assert "restrained:" not in write_report(sweep.folder, Results.of(sweep.plan, tables))[
        1
    ].read_text(encoding="utf-8")
    sweep.plan["cells"][1]["restrain"] = {"prune": 1.2}
    sweep.commit([])
    text = write_report(sweep.folder, Results.of(sweep.plan, tables))[1].read_text(encoding="utf-8")
    assert re.findall(r"restrained: [^<]*", text) == ["restrained: {&#39;prune&#39;: 1.2}"]


def test_a_spreadsheet_runs_nothing() -> None:
    frame = pl.DataFrame({"a": ["=1+1", "+x", "-x", "@x", "\tx", "x=1", None], "b": range(-3, 4)})
    cells = [row["a"] for row in csv.DictReader(to_csv(frame).splitlines())]
    assert cells == ["'=1+1", "'+x", "'-x", "'@x", "'\tx", "x=1", ""]


def test_the_template_is_found_where_one_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDITSWEEP_DASHBOARDS", raising=False)
    assert (template_folder() / TEMPLATE).is_file()
    own = tmp_path / TEMPLATE
    own.parent.mkdir()
    own.write_text("mine")
    monkeypatch.setenv("EDITSWEEP_DASHBOARDS", str(tmp_path))
    assert template_folder() == tmp_path
    monkeypatch.setattr("editsweep.report.html.TEMPLATE", "report/none.j2")
    with pytest.raises(ConfigError, match="EDITSWEEP_DASHBOARDS"):
        template_folder()


def test_a_folder_that_is_no_sweep_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"plan\.json does not exist"):
        read_plan(tmp_path)


def test_a_report_needs_neither_torch_nor_ray_nor_mlflow() -> None:
    code = (
        "import sys, editsweep.report.write, editsweep.report.view, editsweep.store.store\n"
        "print(*{'torch', 'ray', 'mlflow', 'transformers'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_a_page_of_many_cells_shows_some_and_says_where_all_are(
    synthetic: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = synthetic()
    tables = sweep.commit().tables()
    sizes = []
    for listed, detailed in ((9, 9), (9, 2), (3, 2)):
        monkeypatch.setattr("editsweep.report.html.LISTED", listed)
        monkeypatch.setattr("editsweep.report.html.DETAILED", detailed)
        page = write_report(sweep.folder, Results.of(sweep.plan, tables))[1].read_text()
        board = re.search(r'<section id="leaderboard">.*?</section>', page, re.DOTALL)
        assert board is not None
        labels = len(re.findall("<tr data-cell", board[0]))
        details = set(re.findall(r'<tr data-key="(\w+)', page))
        sizes.append((labels, len(details), "details of the first" in page))
    assert sizes == [(4, 4, False), (4, 2, True), (3, 2, True)]
    rows = list(csv.DictReader((sweep.folder / "leaderboard.csv").read_text().splitlines()))
    assert len({row["cell_id"] for row in rows}) == 4
