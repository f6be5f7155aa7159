"""What is submitted, as text: it is whole, it is quoted, and no secret is in it."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from editsweep.errors import ConfigError
from editsweep.launch import TARGETS
from editsweep.launch.job import Job, RunFlags, make_job, make_target
from editsweep.run.sweep import parse_sweep, sweep_text

ROOT = Path(__file__).parents[3]
ODD = "a b'c\"d $(touch hit) `touch hit` \\ ;&| * # é"
SMOKE = ROOT / "jobs" / "sweeps" / "smoke.yaml"
NEEDED = {"kuberay": ["image=registry.example/editsweep:0.1.0", "claim=data"]}
# The one command of each example in jobs/, after `submit jobs/sweeps/smoke.yaml --dry-run`.
EXAMPLES = {
    "ray/smoke.yaml": ("ray", ["workers=2", "folder=/shared/project"]),
    "slurm/one-node.sh": ("slurm", ["cpus=8", "memory=32G", "time=12:00:00"]),
    "slurm/many-nodes.sh": ("slurm", ["nodes=4", "cpus=8", "gpus=2", "memory=64G"]),
    "kuberay/smoke.yaml": ("kuberay", [*NEEDED["kuberay"], "workers=2", "gpus=1"]),
}


def job(**changes):
    values = {
        "name": "demo",
        "sweep_id": "0123456789abcdef" * 2,
        "sweep": f"name: demo\nnote: |\n  {ODD}\n\n  last\n",
        "folder": "/shared/project",
        "out": "runs",
        "units": 40,
    }
    return Job(**{**values, **changes})


def target(name, *settings):
    return make_target(name, [*NEEDED.get(name, []), *settings])


@pytest.mark.parametrize("name", TARGETS.names())
def test_rendering_is_pure_and_has_no_secret(name, monkeypatch):
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


def test_no_job_goes_to_an_open_cluster_on_the_network(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(ConfigError, match="no token"):
        target("ray", "address=http://head.example:8265").submit(job())


def test_a_text_setting_needs_no_quotes():
    script = target("slurm", "time=12:00:00", "account=0123").render(job())
    assert "#SBATCH --time=12:00:00\n#SBATCH --account=0123\n" in script


FAKE = """#!/bin/sh
printf '%s\\0' "$0" "$PWD" "$@" >"$RECORD"
[ "$(basename "$0")" != editsweep ] || cp "$2" "$RECORD.sweep"
"""


def ran(script, folder, tmp_path, **variables):
    """What `editsweep` is called with by a script, its folder first, and the sweep it gets."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("editsweep", "srun", "scontrol", "squeue"):
        (programs / name).write_text(FAKE)
        (programs / name).chmod(0o755)
    record = tmp_path / "record"
    env = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "RECORD": str(record),
        "SLURM_JOB_ID": str(os.getpid()),
        **variables,
    }
    done = subprocess.run(
        ["bash", "-s"],
        input=script,
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not list(folder.glob("**/hit")), done
    _, *words = record.read_bytes().decode().split("\0")[:-1]
    return words, Path(f"{record}.sweep").read_text()


def test_slurm_runs_exactly_what_was_meant(tmp_path):
    folder = tmp_path / ODD.replace("/", "") / "line\nbreak"
    folder.mkdir(parents=True)
    made = job(folder=str(folder), out=f"{ODD} out")
    script = target("slurm", "cpus=4").render(made)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    words, sweep = ran(script, folder, tmp_path)
    assert sweep == made.sweep
    assert words[0] == str(folder)
    assert words[1:2] + words[3:] == (
        ["run", "--out", f"{ODD} out", "--workers", "4", "--threads", "1"]
    )


HOSTILE = [
    *("a b", "a'b", 'a"b', "$(touch hit)", "`touch hit`", "a;touch hit;", "a\ntouch hit\n", "-rf"),
    *("a\\", "$HOME", "~", "*", "a&touch hit&", "\u202etouch\u202c", "\u2028x", "!!", "#", "\t"),
]


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_words_come_back_as_they_are(word, tmp_path):
    folder = tmp_path / f"{word} in"
    folder.mkdir()
    made = job(folder=str(folder), out=word, sweep=f"name: demo\nnote: {word!r}\n{word}")
    scripts = {
        "slurm": target("slurm", "cpus=4", f"bin={word}").render(made),
        "nodes": target("slurm", "cpus=4", "nodes=2", f"bin={word}").render(made),
        "ray": yaml.safe_load(target("ray").render(made))["entrypoint"],
    }
    for script in scripts.values():
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (folder / "sweep.yaml").write_text(made.sweep)
    for name in ("slurm", "ray"):
        words, sweep = ran(scripts[name], folder, tmp_path)
        assert sweep == made.sweep
        assert (words[0], words[1], words[3], words[4]) == (str(folder), "run", "--out", word)
    assert [p for p in tmp_path.rglob("*") if p.name in ("hit", "hit;", "hit&")] == []


@pytest.mark.parametrize("name", [*(w for w in HOSTILE), "../up", "a/b", ".", "x" * 101])
def test_a_name_that_becomes_a_path_is_checked(name):
    with pytest.raises(ConfigError):
        parse_sweep(
            f"name: {json.dumps(name)}\nmodels: [tiny-llama]\neditors: [none]\ndatasets: [world]\n"
        )


def test_slurm_gives_each_seed_a_sweep_of_its_own(tmp_path):
    script = target("slurm", "seeds=[3,-1]").render(job(folder=str(tmp_path)))
    assert "#SBATCH --array=0-1\n" in script
    words, _ = ran(script, tmp_path, tmp_path, SLURM_ARRAY_TASK_ID="1")
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
def test_no_worker_is_wider_than_a_node(settings, units, shared):
    assert f"options=({shared})" in target("slurm", *settings).render(job(units=units))


def test_more_workers_than_the_nodes_hold_are_refused():
    with pytest.raises(ConfigError, match="cores"):
        target("slurm", "cpus=2", "workers=3").render(job())


FLAGS = RunFlags(gpus_per_worker=0.5, unit_timeout=90.0)


@pytest.mark.parametrize(
    ("to", "settings"),
    [
        ("ray", []),
        ("slurm", ["cpus=8", "gpus=1"]),
        ("slurm", ["nodes=2", "cpus=8", "gpus=1"]),
        ("slurm", ["exclusive=true"]),
        ("kuberay", ["gpus=1"]),
    ],
)
def test_every_target_passes_the_flags_of_run_on(to, settings):
    assert "--gpus-per-worker 0.5 --unit-timeout 90.0" in target(to, *settings).render(
        job(flags=FLAGS)
    )


def test_workers_share_gpus_as_they_are_told_to():
    script = target("slurm", "nodes=2", "cpus=8", "gpus=1").render(job(flags=FLAGS))
    assert "options=(--workers 4 --threads 4 " in script


@pytest.mark.parametrize(
    "wrong", [{"gpus_per_worker": 2.0}, {"gpus_per_worker": 0.0}, {"unit_timeout": 0.0}]
)
def test_a_flag_that_run_would_refuse_is_refused_at_once(wrong):
    with pytest.raises(ConfigError, match=r"--(gpus-per-worker|unit-timeout)"):
        RunFlags(**wrong)


def test_who_starts_ray_gets_the_port_of_metrics():
    flagged = job(flags=RunFlags(metrics_port=9100))
    assert "--metrics-port 9100)" in target("slurm", "cpus=2").render(flagged)
    over_nodes = target("slurm", "cpus=2", "nodes=2").render(flagged)
    assert "metrics=9100\n" in over_nodes
    assert "--metrics-port" not in over_nodes
    _, made = yaml.safe_load_all(target("kuberay").render(flagged))
    spec = made["spec"]
    assert (
        spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["metrics-export-port"] == "9100"
    )
    assert "--metrics-port" not in spec["entrypoint"]
    with pytest.raises(ConfigError, match="--metrics-port"):
        target("ray").render(flagged)


def test_ray_gets_a_command_that_takes_every_word_as_it_is(tmp_path):
    folder = tmp_path / ODD.replace("/", "")
    folder.mkdir()
    made = job(folder=str(folder), out=ODD)
    request = yaml.safe_load(target("ray", "workers=2").render(made))
    assert request["working_dir"]["sweep.yaml"] == made.sweep
    (tmp_path / "sweep.yaml").write_text(made.sweep)
    words, sweep = ran(request["entrypoint"], tmp_path, tmp_path)
    assert sweep == made.sweep
    assert words == [
        *(str(folder), "run", str(tmp_path / "sweep.yaml"), "--out", ODD),
        *("--address", "auto", "--workers", "2"),
    ]


def test_kuberay_refuses_what_its_shells_would_split():
    with pytest.raises(ConfigError, match="--out"):
        target("kuberay").render(job(out="a b"))


def test_the_name_of_a_resource_fits_kubernetes():
    made = list(yaml.safe_load_all(target("kuberay").render(job(name="A_b.C" + "x" * 90))))
    for document in made:
        name = document["metadata"]["name"]
        assert name.startswith("es-a-b-c")
        assert len(name) <= 47
    assert made[0]["data"]["sweep.yaml"] == job().sweep


def test_the_sweep_travels_with_all_that_was_laid_over_it(tmp_path):
    made = make_job(SMOKE, Path("runs"), ["unit_size=3", "editors[1].steps=2"], 5, True)
    sweep = parse_sweep(made.sweep)
    assert (sweep.unit_size, sweep.datasets[0].limit, sweep.datasets[0].skip_bad) == (3, 5, True)
    assert sweep.editors[1].params == {"steps": 2}
    assert sweep == parse_sweep(SMOKE.read_text(), ["unit_size=3", "editors[1].steps=2"], 5, True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_are_what_dry_run_gives(name):
    to, settings = EXAMPLES[name]
    # The id follows from the version too, so the examples have one of their own.
    text = make_target(to, settings).render(job(name="smoke", sweep=sweep_text(SMOKE)))
    path = ROOT / "jobs" / name
    if os.environ.get("EDITSWEEP_WRITE_EXAMPLES"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text
    said = path.with_name("README.md").read_text()
    assert f"--to {to}" in said
    assert " ".join(f"--with {shlex.quote(setting)}" for setting in settings) in said


@pytest.mark.parametrize(
    "settings", [[], ["gpus=2", "workers=3", "secret=token", "deadline=3600", "keep=0"]]
)
def test_the_ray_job_fits_what_is_published_of_its_schema(settings):
    schema = json.loads((ROOT / "tests" / "data" / "rayjob.schema.json").read_text())
    _, made = yaml.safe_load_all(target("kuberay", *settings).render(job()))
    jsonschema.validate(made, schema)
    auth = made["spec"]["rayClusterSpec"]["authOptions"]
    assert auth == {"mode": "token"} | ({"secretName": "token"} if settings else {})
    made["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["container"] = []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made, schema)


def objects(value):
    """Every mapping inside of plain JSON."""
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from objects(one)


def test_the_schema_refuses_what_kubernetes_would_drop_without_a_word():
    schema = json.loads((ROOT / "tests" / "data" / "rayjob.schema.json").read_text())
    _, made = yaml.safe_load_all(target("kuberay", "gpus=2", "deadline=60").render(job()))
    valid = jsonschema.Draft202012Validator(schema).is_valid
    places = list(objects(made))
    assert len(places) > 20
    for place in places:
        place["unheardOf"] = []
        assert not valid(made)
        del place["unheardOf"]
    assert valid(made)


def test_kubectl_gets_what_dry_run_shows(tmp_path, monkeypatch):
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
def test_a_tool_that_is_not_here_is_said(name, tool, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=f"no {tool} here.*--dry-run"):
        target(name).submit(job(folder=str(tmp_path)))


def test_sbatch_gets_what_dry_run_shows(tmp_path, monkeypatch):
    fake = tmp_path / "sbatch"
    fake.write_text('#!/bin/sh\ncat >"$RECORD"\n[ "$1" = --parsable ] && echo "17;here"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    made = job(folder=str(tmp_path))
    assert target("slurm").submit(made).job_id == "17"
    assert (tmp_path / "record").read_text() == target("slurm").render(made)
