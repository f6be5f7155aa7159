"""Recording in MLflow: complete, once, brought up to date, and never in the sweep's way."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from editsweep.core import schema
from editsweep.errors import ConfigError, StoreError
from editsweep.store import tracking, tracking_client
from editsweep.store.chains import ChainFiles
from editsweep.store.tracking_client import Content, Point, Runs, Wanted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def rows(sweep: Any, mean: float = 0.5) -> list[dict[str, Any]]:
    return [
        {
            "cell_id": cell["cell_id"],
            "axis": "reliability",
            "metric": "exact_match",
            "protocol": "t",
            "phase": phase,
            "mean": mean,
            "ci_low": None,
            "ci_high": 0.75,
            "n": 40,
        }
        for cell in sweep.plan["cells"]
        for phase in ("pre", "post")
    ]


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs(uri: str, experiment: str = "demo") -> dict[str, Any]:
    found = client(uri)
    place = found.get_experiment_by_name(experiment)
    assert place.tags["mlflow.experimentKind"] == "custom_model_development"
    return {run.info.run_name: run for run in found.search_runs([place.experiment_id])}


def test_recording_twice_makes_no_second_run(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic(edits=4, unit_size=2)
    units = list(sweep.units)
    sweep.plan["cells"][2]["restrain"] = {"rect": 0.4}
    sweep.commit(units[:5])
    (sweep.folder / "report.html").write_text("<p>")
    uri = tracking.default_uri(sweep.folder)

    first = tracking.record(sweep.folder, None, "demo", rows(sweep))
    assert (first.recorded, first.created, first.updated) == (True, 5, 0)
    found = runs(uri)
    assert set(found) == {"demo", "none", "ft", "rome", "ike"}
    status = {name: run.data.tags["editsweep.status"] for name, run in found.items()}
    assert status == {
        "demo": "partial",
        "none": "complete",
        "ft": "complete",
        "rome": "partial",
        "ike": "partial",
    }
    rome = found["rome"]
    assert rome.data.tags["mlflow.parentRunId"] == first.parent_run_id
    assert rome.data.params["editor.layer"] == "12"
    assert [found[n].data.params.get("restrain.rect") for n in ("ft", "rome")] == [None, "0.4"]
    assert rome.data.metrics == {
        f"{pre}reliability.exact_match{end}": value
        for pre in ("", "pre.")
        for end, value in (("", 0.5), (".ci_high", 0.75), (".n", 40.0))
    }
    assert [i.dataset.name for i in rome.inputs.dataset_inputs] == ["world:test"]

    sweep.commit(units[5:])
    second = tracking.record(sweep.folder, None, "demo", rows(sweep, 0.6))
    assert (second.created, second.updated) == (0, 5)
    third = tracking.record(sweep.folder, None, "demo", rows(sweep, 0.6))
    assert third == second
    found = runs(uri)
    assert len(found) == 5
    assert {run.data.tags["editsweep.status"] for run in found.values()} == {"complete"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found["rome"].data.metrics["reliability.exact_match"] == 0.6
    assert len(found["rome"].inputs.dataset_inputs) == 1
    history = client(uri).get_metric_history(found["rome"].info.run_id, "reliability.exact_match")
    assert [point.value for point in history] == [0.5, 0.6]


def test_a_number_that_falls_is_the_one_that_is_shown(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic(edits=1)
    sweep.commit()
    for mean in (0.6, 0.4, 0.4):
        assert tracking.record(sweep.folder, None, "demo", rows(sweep, mean)).recorded
    uri = tracking.default_uri(sweep.folder)
    rome = runs(uri)["rome"]
    assert rome.data.metrics["reliability.exact_match"] == 0.4
    history = client(uri).get_metric_history(rome.info.run_id, "reliability.exact_match")
    assert [point.value for point in history] == [0.6, 0.4]


def test_what_is_there_already_is_found_on_every_page_and_not_written_again(
    synthetic: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_client, "_RUNS_A_PAGE", 2)
    sweep = synthetic(edits=1)
    sweep.commit()
    tracking.record(sweep.folder, None, "demo", rows(sweep))
    written: list[str] = []
    whole = Runs._numbers

    def write(self: Runs, run_id: str, content: Any, tags: Any) -> None:
        written.append(run_id)
        whole(self, run_id, content, tags)

    monkeypatch.setattr(Runs, "_numbers", write)
    again = tracking.record(sweep.folder, None, "demo", rows(sweep))
    assert (again.created, again.updated, written) == (0, 5, [])
    changed = [*rows(sweep)[:-1], rows(sweep, 0.7)[-1]]
    tracking.record(sweep.folder, None, "demo", changed)
    last = runs(tracking.default_uri(sweep.folder))[sweep.plan["cells"][-1]["label"]]
    assert written == [last.info.run_id]


def nothing(run: Any, draft: Path) -> Content:
    return Content()


def test_of_two_that_record_at_the_same_time_the_first_run_stays(tmp_path: Path) -> None:
    uri, among = f"sqlite:///{tmp_path}/mlflow.db", {"editsweep.sweep_id": "s"}
    first, second = Runs(uri, "demo", among), Runs(uri, "demo", among)

    def meanwhile(run: Any, draft: Path) -> Content:
        """The other one made the same runs and was killed."""
        if not second._made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(second, "_settle", lambda: None)
                second._make([replace(one, start=4) for one in wanted])
        return Content()

    above = Wanted("sweep", "s", "demo", "1", nothing, 5)
    cells = [Wanted("cell", key, key, "1", meanwhile, 5, under=above.who) for key in "ab"]
    wanted = [above, *cells]
    there = first.bring(wanted)
    assert {who: len(found) for who, found in first.look().items()} == {
        ("sweep", "s"): 1,
        ("cell", "a"): 1,
        ("cell", "b"): 1,
    }
    assert {run.info.run_id for run in there.values()} == second._made
    for one in cells:
        assert there[one.who].data.tags["mlflow.parentRunId"] == there[above.who].info.run_id
    assert {run.info.status for run in there.values()} == {"FINISHED"}
    assert first.counted(wanted) == (0, 3)


def test_of_two_that_write_different_things_at_once_one_is_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, among = f"sqlite:///{tmp_path}/mlflow.db", {"editsweep.sweep_id": "s"}
    users = {name: Runs(uri, "demo", among) for name in ("old", "new")}

    def wanted(name: str) -> list[Wanted]:
        def fill(run: Any, draft: Path) -> Content:
            (draft / "a.txt").write_text(name)
            point = Point("mean", {"old": 0.3, "new": 0.7}[name], 5)
            return Content({}, [point], {}, ("data", "digest", "test"))

        return [Wanted("sweep", "s", "demo", name, fill, 5)]

    meanwhile = iter(["new"])

    def between(*_: Any) -> None:
        """The files are there and the numbers are not when the other one comes and goes."""
        for name in meanwhile:
            users[name].bring(wanted(name))

    monkeypatch.setattr(users["old"], "_dataset", between)
    (run,) = users["old"].bring(wanted("old")).values()
    assert next(meanwhile, None) is None
    assert run.data.tags["editsweep.content"] == "old"
    assert run.data.metrics == {"mean": 0.3}
    file = client(uri).download_artifacts(run.info.run_id, "a.txt", str(tmp_path))
    assert Path(file).read_text() == "old"


def test_artifacts_are_the_cells_own_tables(synthetic: Callable[..., Any], tmp_path: Path) -> None:
    sweep = synthetic(edits=3, unit_size=3)
    store = sweep.commit()
    result = tracking.record(sweep.folder, None, "demo", rows(sweep))
    uri = tracking.default_uri(sweep.folder)
    found, reader = runs(uri), client(uri)
    assert {a.path for a in reader.list_artifacts(result.parent_run_id)} == {
        "plan.json",
        "sweep.lock.yaml",
    }
    ike = found["ike"]
    assert ike.info.artifact_uri.startswith((tmp_path / "mlartifacts").as_uri())
    for kind in schema.PARTS:
        path = reader.download_artifacts(ike.info.run_id, f"results/{kind}.arrow", str(tmp_path))
        own = [r for r in store.table(kind).to_pylist() if r["cell_id"] == ike_id(sweep)]
        assert schema.from_ipc(Path(path).read_bytes()).to_pylist() == own
    preview = Path(reader.download_artifacts(ike.info.run_id, "preview/answers.csv", str(tmp_path)))
    lines = preview.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("axis,facet,prompt")
    assert len(lines) == 1 + 3 * 8


def ike_id(sweep: Any) -> str:
    return next(c["cell_id"] for c in sweep.plan["cells"] if c["editor"] == "ike")


def test_a_server_that_is_down_is_only_reported(synthetic: Callable[..., Any]) -> None:
    sweep = synthetic(edits=1)
    sweep.commit()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        result = tracking.record(sweep.folder, uri, "demo", rows(sweep))
    assert not result.recorded
    assert "failed" in result.reason
    assert "secret" not in str(result)
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_a_folder_without_a_plan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"plan\.json"):
        tracking.record(tmp_path, None, "demo", [])


def test_metric_names_are_what_mlflow_takes() -> None:
    row = {"axis": "a@b", "metric": "m(x)", "phase": "post", "n": 3, "ci_low": None}
    one = {**row, "protocol": "t", "mean": 0.25, "ci_high": float("inf")}
    assert tracking.metrics([one]) == {"a_b.m_x_": 0.25, "a_b.m_x_.n": 3.0}
    two = {**one, "protocol": "g", "mean": None}
    assert set(tracking.metrics([one, two])) == {"a_b.m_x_.t", "a_b.m_x_.t.n", "a_b.m_x_.g.n"}


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("a b/c.d-e", "a b/c.d-e"),
        ("a//b", "a__b"),
        ("/a", "_a"),
        ("../a", "__a"),
        ("..", "_"),
        ("", "_"),
        ("é\n🦙", "é__"),
        ("x" * 251, "x" * 250),
    ],
)
def test_any_name_becomes_one_that_mlflow_takes(name: str, taken: str) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    assert tracking_client.metric_name(name) == taken
    _validate_metric_name(taken)
    _validate_param_name(taken)


def test_text_is_what_every_database_takes() -> None:
    assert tracking_client.plain_text("a\0b\ud800🦙\n", 9) == "a\ufffdb\ufffd🦙\n"
    assert tracking_client.plain_text("🦙" * 9, 3) == "🦙" * 3


def test_parameters_are_sent_in_calls_that_mlflow_takes() -> None:
    from mlflow.entities import Param

    short = [Param(str(i), "x") for i in range(201)]
    assert [len(batch) for batch in tracking_client._batches(short)] == [100, 100, 1]
    wide = [Param(str(i), "🦙" * 6000) for i in range(15)]  # 12 bytes each in JSON
    assert [len(batch) for batch in tracking_client._batches(wide)] == [6, 6, 3]
    assert tracking_client._batches([]) == []


@pytest.mark.parametrize("before", ["_dataset", "set_terminated"])
def test_a_run_that_was_left_in_the_middle_is_open_and_made_whole(
    synthetic: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    sweep = synthetic(edits=1)
    sweep.commit()
    uri = tracking.default_uri(sweep.folder)
    from mlflow import MlflowClient

    owner: Any = MlflowClient if before == "set_terminated" else Runs
    whole, left = getattr(owner, before), [2]

    def dies(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise OSError("the disk is gone")
        return whole(*args, **more)

    monkeypatch.setattr(owner, before, dies)
    assert "the disk is gone" in tracking.record(sweep.folder, None, "demo", rows(sweep)).reason
    status = sorted(run.info.status for run in runs(uri).values())
    assert status == ["FINISHED", *["RUNNING"] * 4]
    done = tracking.record(sweep.folder, None, "demo", rows(sweep))
    assert (done.reason, done.created, done.updated) == ("", 0, 5)
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}
    assert {run.data.metrics.get("reliability.exact_match.n") for run in runs(uri).values()} == {
        None,
        40.0,
    }


def test_a_finished_run_that_is_left_while_it_is_written_anew_is_open(
    synthetic: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = synthetic(edits=1)
    sweep.commit()
    uri = tracking.default_uri(sweep.folder)
    tracking.record(sweep.folder, None, "demo", rows(sweep))

    def dies(*_: Any) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "_numbers", dies)
        assert not tracking.record(sweep.folder, None, "demo", rows(sweep, 0.7)).recorded
    status = sorted(run.info.status for run in runs(uri).values())
    assert status == [*["FINISHED"] * 4, "RUNNING"]
    assert tracking.record(sweep.folder, None, "demo", rows(sweep, 0.7)).recorded
    assert {run.info.status for run in runs(uri).values()} == {"FINISHED"}


def test_the_pages_are_served_to_this_machine_only(tmp_path: Path) -> None:
    command = tracking.ui_command(f"sqlite:///{tmp_path}/mlflow.db", 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false" in command
    with pytest.raises(ConfigError, match="open it in a browser"):
        tracking.ui_command("http://me:secret@mlflow:80", 5001)


def test_a_sequence_has_its_curves_and_its_edited_model(
    synthetic: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = synthetic(edits=4, unit_size=2)
    sweep.commit()
    cell = sweep.plan["cells"][0]["cell_id"]
    units = [u["unit_id"] for u in sweep.plan["units"] if u["cell_id"] == cell]
    ChainFiles(sweep.folder).keep(cell, units[1], b"the edited model")
    one = rows(sweep)[0] | {"phase": "retained"}
    along = [one | {"unit_id": u, "edits": 2 * i + 2, "mean": i / 2} for i, u in enumerate(units)]
    uri = tracking.default_uri(sweep.folder)
    for _ in range(2):
        done = tracking.record(sweep.folder, None, "demo", [*rows(sweep), one], along)
        assert done.reason == ""
    run = runs(uri)[sweep.plan["cells"][0]["label"]]
    assert run.data.metrics["retained.reliability.exact_match"] == 0.5
    history = client(uri).get_metric_history(
        run.info.run_id, "along.retained.reliability.exact_match"
    )
    assert [(point.step, point.value) for point in history] == [(2, 0.0), (4, 0.5)]
    kept = client(uri).list_artifacts(run.info.run_id, "edited_model")
    assert [(a.path, a.file_size) for a in kept] == [("edited_model/patch.safetensors", 16)]
    other = runs(uri)[sweep.plan["cells"][1]["label"]]
    assert not client(uri).list_artifacts(other.info.run_id, "edited_model")
    monkeypatch.setattr(tracking, "LARGEST_ARTIFACT", 15)
    tracking.record(sweep.folder, None, "large", rows(sweep), along)
    run = runs(uri, "large")[sweep.plan["cells"][0]["label"]]
    assert run.data.tags["editsweep.edited_model"].endswith(".safetensors")
    assert not client(uri).list_artifacts(run.info.run_id, "edited_model")
