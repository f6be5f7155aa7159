"""The pictures of a tracing: whole, the same bytes each time, whatever stands in the tokens."""

import pytest

from editsweep.core import schema
from editsweep.report.trace_chart import effects, heatmap, png, svg
from editsweep.report.trace_page import write_traces
from editsweep.report.trace_table import roles

TOKENS = [
    ("The", "before"),
    (" Eiffel$", "first_subject"),
    (" Tow", "middle_subject"),
    ("er", "last_subject"),
    (" 是\n", "first_after"),
    (" in <b>", "further"),
    (" $", "last"),
]
ABOUT = {
    "model": "tiny <b>",
    "data": "world:test",
    "noise": 3.0,
    "sigma": 0.1,
    "samples": 10,
    "seed": 1,
    "window": 10,
}


@pytest.fixture
def traces():
    rows = [
        {
            "fact_id": f"{n:032}",
            "prompt": "<i>The Eiffel$ Tower",
            "subject": "Eiffel$ Tower",
            "answer": " Paris",
            "kind": kind,
            "token_index": place,
            "token": token,
            "role": role,
            "layer": layer,
            "probability": 0.1 + 0.01 * layer * place + 0.02 * n,
            "low": 0.1,
            "clean": 0.7,
            "effect": 0.01 * layer * place + 0.02 * n,
        }
        for n in range(3)
        for kind in ("state", "mlp", "attention")
        for place, (token, role) in enumerate(TOKENS)
        for layer in range(5)
    ]
    return schema.table(schema.TRACES, rows)


def test_the_heat_map_shows_every_token_and_stars_the_subject(traces):
    drawn = svg(heatmap(traces.slice(0, 105), 10))
    for told in ("The<", "Eiffel$*", "Tow*", "er*", "是⏎<", "p(Paris): 0.700 clean, 0.100"):
        assert told in drawn
    assert "MLP restored, windows of 10 layers" in drawn
    assert drawn == svg(heatmap(traces.slice(0, 105), 10))
    assert png(heatmap(traces.slice(0, 35), 1))[:4] == b"\x89PNG"


def test_the_effects_have_a_line_for_each_role(traces):
    drawn = svg(effects(roles(traces), 10, 3))
    for told in ("last subject token", "first token after", "mean over 3 facts"):
        assert told in drawn
    assert "before" not in drawn


def test_the_folder_holds_tables_pictures_and_a_page(traces, tmp_path):
    files = write_traces(tmp_path, traces, ABOUT, pictures=2)
    assert sorted(p.name for p in (tmp_path / "heatmaps").iterdir()) == [
        f"{n:032}.svg" for n in range(2)
    ]
    assert all((tmp_path / name).is_file() for name in files)
    assert schema.from_ipc((tmp_path / "traces.arrow").read_bytes()) == traces
    assert (tmp_path / "roles.csv").read_text().startswith("kind,role,layer,effect")
    page = (tmp_path / "trace.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml") == 3
    assert "tiny &lt;b&gt;" in page
    assert "<i>" not in page
    assert "3 facts" in page
