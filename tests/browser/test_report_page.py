"""The report in a real browser: nothing fetched, no error, and the leaderboard's own numbers."""

import csv
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from editsweep.report.results import Results
from editsweep.report.write import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def sweep(synthetic: Callable[..., Any]) -> Any:
    made = synthetic()
    write_report(made.folder, Results.of(made.plan, made.commit().tables()))
    return made


def open_page(browser: Any, sweep: Any, **options: Any) -> tuple[Any, list[str], list[str]]:
    context = browser.new_context(**options)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((sweep.folder / "report.html").as_uri())
    return page, asked, said


def test_nothing_is_fetched_and_nothing_complains(browser: Any, sweep: Any) -> None:
    page, asked, said = open_page(browser, sweep)
    local = [url for url in asked if not url.startswith("data:")]
    assert local == [(sweep.folder / "report.html").as_uri()]
    assert said == []
    assert page.title() == "demo · EditSweep"
    assert page.locator("figure .key", has_text="rome").is_visible()
    assert page.locator("figure svg [id='cell-4']").is_visible()


def test_the_tables_show_the_leaderboard(browser: Any, sweep: Any) -> None:
    page, _, _ = open_page(browser, sweep, java_script_enabled=True)
    page.evaluate("document.querySelector('#full').open = true")
    with (sweep.folder / "leaderboard.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown: dict[tuple[str, ...], str] = {}
    for line in page.locator("#full tr[data-key]").all():
        key = tuple((line.get_attribute("data-key") or "").split("|"))
        for phase, cell in zip(("pre", "post"), line.locator("td[data-mean]").all(), strict=True):
            value = cell.get_attribute("data-mean")
            if value:
                shown[(*key, phase)] = value
                assert cell.locator(".mean").inner_text() == f"{float(value):.3f}"
    names = ("cell_id", "axis", "metric", "protocol", "phase")
    told = {tuple(row[name] for name in names): row["mean"] for row in rows}
    assert {key: float(v) for key, v in shown.items()} == {key: float(v) for key, v in told.items()}
    assert len(shown) == 108
    cell = next(row for row in rows if row["label"] == "rome")["cell_id"]
    line = page.locator(f"#leaderboard tr[data-cell='{cell}'] td[data-mean]")
    head = [float(value.get_attribute("data-mean")) for value in line.all()]
    columns = [
        *(("reliability", "exact_match"), ("paraphrase", "exact_match")),
        *(("reverse", "preference"), ("portability", "exact_match"), ("locality", "agreement")),
    ]
    assert head == [
        float(row["mean"])
        for axis, metric in columns
        for row in rows
        if row["cell_id"] == cell and row["phase"] == "post"
        if (row["axis"], row["metric"]) == (axis, metric)
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_the_window_and_works_without_script(
    browser: Any, sweep: Any, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 900}
    page, _, said = open_page(
        browser, sweep, viewport=size, color_scheme=scheme, java_script_enabled=False
    )
    assert page.locator("#leaderboard tbody tr").count() == 4
    assert page.locator("#failures").is_visible()
    assert said == []
    box = page.locator("body").bounding_box()
    assert box["width"] <= width
    page.locator("#full summary").click()
    assert page.locator("#full tr[data-key]").first.is_visible()


def test_the_page_is_no_wider_than_a_phone(browser: Any, sweep: Any) -> None:
    page, _, _ = open_page(browser, sweep, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
