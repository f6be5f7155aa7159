"""What is submitted, as text: it is whole, it is quoted, and no secret is in it."""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from editsweep.errors import ConfigError
from editsweep.launch import TARGETS
from editsweep.launch.job import make_job, make_target
from editsweep.run.sweep import parse_sweep

KUBERNETES = "1.37"  # whose published schemas of pods and of everything in them are used
ROOT = Path(__file__).parents[3]
SMOKE = ROOT / "jobs" / "sweeps" / "smoke.yaml"
NEEDED = {"kuberay": ["image=registry.example/editsweep:0.1.0", "claim=data"]}
# The one command of each example in jobs/, after `submit jobs/sweeps/smoke.yaml --dry-run`.
EXAMPLES = {
    "ray/smoke.yaml": ("ray", ["workers=2", "folder=/shared/project"]),
    "slurm/shared-node.sh": (
        "slurm",
        ["cpus=8", "gpus=1", "memory=32G", "time=12:00:00", "seeds=[0,1,2]"],
    ),
    "slurm/several-nodes.sh": (
        "slurm",
        ["nodes=4", "cpus=64", "gpus=4", "exclusive=true", "time=2-00:00:00"],
    ),
    "kuberay/smoke.yaml": ("kuberay", [*NEEDED["kuberay"], "workers=2", "gpus=1"]),
}


@pytest.fixture(scope="module")
def rayjob():
    """Validates a RayJob: KubeRay's own fields, and pods as Kubernetes' published schemas do."""
    schema = json.loads((ROOT / "tests" / "data" / "rayjob.schema.json").read_text())
    pods = f"kubernetes-json-schema/v{KUBERNETES}.0-local-strict/_definitions.json"
    registry = Resource.from_contents(schema_contents(pods, KUBERNETES)) @ Registry()
    return jsonschema.Draft202012Validator(schema, registry=registry)


def target(name, *settings):
    return make_target(name, [*NEEDED.get(name, []), *settings])


@pytest.mark.parametrize("name", TARGETS.names())
def test_rendering_is_pure_and_has_no_secret(job, name, monkeypatch):
    first = target(name).render(job())
    monkeypatch.setenv("RAY_AUTH_TOKEN", "not-for-others")
    monkeypatch.setenv("HF_TOKEN", "not-for-others")
    assert target(name).render(job()) == first
    assert "not-for-others" not in first


@pytest.mark.parametrize("name", TARGETS.names())
def test_a_wrong_setting_is_named(name):
    with pytest.raises(ConfigError, match="did you mean 'workers'"):
        target(name, "workerz=2")
    with pytest.raises(ConfigError, match="integer"):
        target(name, "workers=many")
    with pytest.raises(ConfigError, match="write key=value"):
        target(name, "workers")
    with pytest.raises(ConfigError, match="keep one"):
        target(name, "workers=1", "workers=2")
    with pytest.raises(ConfigError, match="1 or more"):
        target(name, "workers=0")


def test_a_needed_setting_is_asked_for():
    with pytest.raises(
        ConfigError, match=r"kuberay\.image: a setting of kuberay that needs a value"
    ):
        make_target("kuberay", [])


@pytest.mark.parametrize(
    "setting",
    [
        *("partition=a b", "account=x\n#SBATCH --uid=0", "memory=much", "time=soon", 'qos="q"'),
        *("nodes=2", "nodes=0", "warn=0", "seeds=[1,1]"),
    ],
)
def test_slurm_is_told_nothing_that_it_would_misread(setting):
    with pytest.raises(ConfigError):
        target("slurm", setting)


@pytest.mark.parametrize(
    "setting",
    ["image=a b", "claim=Data", "namespace=../x", "memory=much", "folder=data", "ray=new"],
)
def test_kubernetes_is_told_nothing_that_it_would_refuse(setting):
    values = dict(s.split("=", 1) for s in [*NEEDED["kuberay"], setting])
    with pytest.raises(ConfigError):
        make_target("kuberay", [f"{key}={value}" for key, value in values.items()])


@pytest.mark.parametrize(
    "address",
    ["http://0.0.0.0:8265", "http://[::]:8265", "127.0.0.1:8265", "http://u:p@h:1", "file:///x"],
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ConfigError, match="address"):
        target("ray", f"address={address}")


def test_no_job_goes_to_an_open_cluster_on_the_network(job, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(ConfigError, match="no token"):
        target("ray", "address=http://head.example:8265").submit(job())


def test_a_text_setting_needs_no_quotes(job):
    script = target("slurm", "time=12:00:00", "account=0123").render(job())
    assert "#SBATCH --time=12:00:00\n#SBATCH --account=0123\n" in script


def test_slurm_gives_each_seed_a_sweep_of_its_own(job, ran, tmp_path):
    script = target("slurm", "seeds=[3,-1]").render(job(folder=str(tmp_path)))
    assert "#SBATCH --array=0-1\n" in script
    words = ran(script, SLURM_ARRAY_TASK_ID="1").words
    assert words[-4:] == ["--set", "seeds=[-1]", "--set", "name=demo-seed--1"]


@pytest.mark.parametrize(
    ("settings", "units", "shared"),
    [
        (["cpus=8"], 40, "--workers 8 --threads 1"),
        (["cpus=8"], 2, "--workers 2 --threads 4"),
        (["nodes=4", "cpus=8"], 4, "--workers 4 --threads 8"),
        (["nodes=4", "cpus=8", "gpus=2"], 40, "--workers 8 --threads 4"),
        (["nodes=2", "cpus=8", "workers=4"], 40, "--workers 4 --threads 4"),
    ],
)
def test_no_worker_is_wider_than_a_node(job, settings, units, shared):
    assert f"options=({shared})" in target("slurm", *settings).render(job(units=units))


def test_more_workers_than_the_nodes_hold_are_refused(job):
    with pytest.raises(ConfigError, match="cores"):
        target("slurm", "cpus=2", "workers=3").render(job())


def test_the_name_of_a_resource_fits_kubernetes(job):
    made = list(yaml.safe_load_all(target("kuberay").render(job(name="A_b.C" + "x" * 90))))
    for document in made:
        name = document["metadata"]["name"]
        assert name.startswith("es-a-b-c")
        assert len(name) <= 47
    assert made[0]["data"]["sweep.yaml"] == job().sweep


def test_the_sweep_travels_with_all_that_was_laid_over_it():
    made = make_job(SMOKE, Path("runs"), ["unit_size=3", "editors[1].steps=2"], 5, True)
    sweep = parse_sweep(made.sweep)
    assert (sweep.unit_size, sweep.datasets[0].limit, sweep.datasets[0].skip_bad) == (3, 5, True)
    assert sweep.editors[1].params == {"steps": 2}
    assert sweep == parse_sweep(SMOKE.read_text(), ["unit_size=3", "editors[1].steps=2"], 5, True)


@pytest.fixture(scope="module")
def smoke():
    """The sweep of the examples; its id follows from the version too, so they have one of their own."""
    made = make_job(SMOKE, Path("runs"))
    return replace(made, sweep_id="0123456789abcdef" * 2, folder="/shared/project")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_what_dry_run_gives(smoke, name):
    to, settings = EXAMPLES[name]
    text = make_target(to, settings).render(smoke)
    path = ROOT / "jobs" / name
    if os.environ.get("EDITSWEEP_WRITE_EXAMPLES"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text
    assert {p.name for p in path.parent.iterdir()} == {
        "README.md",
        *(Path(example).name for example in EXAMPLES if example.startswith(path.parent.name)),
    }
    said = path.with_name("README.md").read_text()
    assert f"--to {to}" in said
    assert " ".join(f"--with {shlex.quote(setting)}" for setting in settings) in said


@pytest.mark.parametrize(
    "settings", [[], ["gpus=2", "workers=3", "secret=token", "deadline=3600", "keep=0"]]
)
def test_the_ray_job_fits_the_published_schema(rayjob, job, settings):
    config, made = yaml.safe_load_all(target("kuberay", *settings).render(job()))
    rayjob.validate(made)
    kubernetes_validate.validate(config, KUBERNETES, strict=True)
    auth = made["spec"]["rayClusterSpec"]["authOptions"]
    assert auth == {"mode": "token"} | ({"secretName": "token"} if settings else {})


def test_kubectl_gets_what_dry_run_shows(job, tmp_path, monkeypatch):
    fake = tmp_path / "kubectl"
    fake.write_text('#!/bin/sh\ncat >"$RECORD"\necho "$@" >"$RECORD.args"\necho "x created"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    done = target("kuberay", "namespace=lab").submit(job())
    assert (tmp_path / "record").read_text() == target("kuberay", "namespace=lab").render(job())
    assert (tmp_path / "record.args").read_text() == "apply --namespace lab --filename -\n"
    assert not done.already


@pytest.mark.parametrize(("name", "tool"), [("kuberay", "kubectl"), ("slurm", "sbatch")])
def test_a_tool_that_is_not_here_is_said(job, name, tool, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=f"no {tool} here.*--dry-run"):
        target(name).submit(job(folder=str(tmp_path)))


def test_sbatch_gets_what_dry_run_shows(job, tmp_path, monkeypatch):
    fake = tmp_path / "sbatch"
    fake.write_text('#!/bin/sh\ncat >"$RECORD"\n[ "$1" = --parsable ] && echo "17;here"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    made = job(folder=str(tmp_path))
    assert target("slurm").submit(made).job_id == "17"
    assert (tmp_path / "record").read_text() == target("slurm").render(made)


def objects(value):
    """Every mapping inside of plain JSON."""
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from objects(one)


def test_the_schema_refuses_what_kubernetes_would_drop_without_a_word(rayjob, job):
    _, made = yaml.safe_load_all(target("kuberay", "gpus=2", "deadline=60").render(job()))
    places = list(objects(made))
    assert len(places) > 20
    for place in places:
        place["unheardOf"] = []
        assert not rayjob.is_valid(made)
        del place["unheardOf"]
    assert rayjob.is_valid(made)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("backoffLimit", 2**31, "maximum"),
        ("activeDeadlineSeconds", "60", "integer"),
        ("submissionMode", "Http", "enum"),
        ("rayClusterSpec", {"workerGroupSpecs": []}, "headGroupSpec"),
        ("deletionStrategy", {"onSuccess": {"policy": "DeleteSelf"}}, "onFailure"),
        ("submitterPodTemplate", {"spec": {"containers": [{"image": "x"}]}}, "name"),
    ],
)
def test_the_schema_refuses_what_kuberay_refuses(rayjob, job, field, value, word):
    _, made = yaml.safe_load_all(target("kuberay").render(job()))
    made["spec"][field] = value
    (error,) = rayjob.iter_errors(made)
    assert word in f"{error} {error.validator}"
