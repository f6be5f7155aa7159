"""Options of `run` that `submit` hands through: each target's job gives them to `run` again."""

import inspect

import pytest
import yaml

from editsweep.cli.submit import submit
from editsweep.cli.sweeps import run
from editsweep.errors import ConfigError
from editsweep.launch.flags import Flags
from editsweep.launch.job import Job, make_target

GIVEN = Flags(
    record=False,
    tracking_uri="http://127.0.0.1:5000",
    max_failures="5%",
    gpus_per_worker=0.5,
    unit_timeout=600.0,
)
WORDS = (
    "--no-record --tracking-uri http://127.0.0.1:5000 --max-failures 5% --gpus-per-worker 0.5 "
    "--unit-timeout 600"
)
SETTINGS = {
    "ray": [],
    "slurm": ["cpus=8"],
    "kuberay": ["image=x/y:1", "claim=data", "cpus=8"],
}


def rendered(to, flags, *settings, gpus=2):
    job = Job("demo", "0123456789abcdef" * 2, "name: demo\n", "/data", "runs", 40, flags)
    nodes = [] if to == "ray" else [f"gpus={gpus}"]
    return make_target(to, [*SETTINGS[to], *nodes, *settings]).render(job)


def in_one_line(text):
    return " ".join(text.split())  # YAML breaks long lines


def ray_job(flags):
    return list(yaml.safe_load_all(rendered("kuberay", flags)))[1]["spec"]


def test_submit_knows_every_option_of_run():
    of_run, of_submit = (set(inspect.signature(command).parameters) for command in (run, submit))
    # These are the target's: Ray always, its cluster, and how its machines are shared out.
    assert of_run - of_submit == {"executor", "address", "workers", "threads"}


@pytest.mark.parametrize("to", SETTINGS)
def test_run_gets_what_submit_got(to):
    assert WORDS in in_one_line(rendered(to, GIVEN))
    assert "--gpus-per-worker" not in rendered(to, Flags())


@pytest.mark.parametrize("to", ["slurm", "kuberay"])
def test_workers_that_share_gpus_are_more(to):
    assert "--workers 2 --threads 4" in in_one_line(rendered(to, Flags()))
    assert "--workers 4 --threads 2" in in_one_line(rendered(to, GIVEN))
    with pytest.raises(ConfigError, match="--with gpus=N"):
        rendered(to, GIVEN, gpus=0)


def test_metrics_have_the_port_of_whoever_starts_ray():
    port = Flags(metrics_port=9464)
    assert "--threads 4 --metrics-port 9464)" in rendered("slurm", port)
    several = rendered("slurm", port, "nodes=2")
    assert "--metrics-port" not in several
    assert "\nmetrics=9464\n" in several
    cluster = ray_job(port)["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["rayStartParams"]["metrics-export-port"] == "9464"
    assert "--metrics-port" not in ray_job(port)["entrypoint"]
    with pytest.raises(ConfigError, match="leave it out"):
        rendered("ray", port)


def test_jobs_that_may_share_a_node_do_not_share_a_port():
    port = Flags(metrics_port=9464)
    with pytest.raises(ConfigError, match="exclusive=true"):
        rendered("slurm", port, "seeds=[0,1]")
    assert "--metrics-port 9464" in rendered("slurm", port, "seeds=[0,1]", "exclusive=true")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_failures": "many"}, "--max-failures 'many'"),
        ({"unit_timeout": 0.0}, "--unit-timeout 0"),
        ({"gpus_per_worker": -1.0}, "--gpus-per-worker -1"),
    ],
)
def test_what_run_would_refuse_is_refused_before(values, said):
    with pytest.raises(ConfigError, match=said):
        Flags(**values)


def test_no_password_gets_into_a_job():
    with pytest.raises(ConfigError, match="password out") as error:
        Flags(tracking_uri="https://me:not-for-others@mlflow.example")
    assert "not-for-others" not in str(error.value)
