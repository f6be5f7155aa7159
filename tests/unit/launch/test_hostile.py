"""Names that a shell, Slurm or YAML could take for something else reach `run` as they are."""

import os
import socket

import pytest
import yaml

from editsweep.errors import ConfigError
from editsweep.launch.flags import Flags
from editsweep.launch.job import make_target

HOSTILE = [
    "two  words ",
    "it's",
    'say "no"',
    "$(touch hit)",
    "`touch hit`",
    "a;touch hit",
    "a&touch hit|touch hit",
    "line\nbreak",
    "carriage\r\nreturn",
    "\n#SBATCH --uid=0",
    "back\\slash\\",
    "$HOME ${x} !! ~ * ? [a] {b,c} # %s",
    "'\"'\"'$(touch hit)",
    "é\u2028\t\u00a0z",
]
FLAGS = ("--no-record", "--tracking-uri", "--max-failures", "5%", "--unit-timeout", "90")


@pytest.fixture(params=HOSTILE, ids=range(len(HOSTILE)))
def hostile(request, tmp_path, job):
    """A job that is hostile all over, its folder made; `touch hit` must not have run in the end."""
    text = request.param
    folder = tmp_path / "at" / text
    folder.mkdir(parents=True)
    flags = Flags(record=False, tracking_uri=text, max_failures="5%", unit_timeout=90)
    sweep = f"name: demo\nnote: |\n  {text}\n\n"
    yield text, job(folder=str(folder), out=text, sweep=sweep, flags=flags)
    assert not list(tmp_path.glob("**/hit"))


def given(words, text):
    """`words` with the hostile flags after them."""
    uri = FLAGS.index("--tracking-uri") + 1
    return [*words, *FLAGS[:uri], text, *FLAGS[uri:]]


def test_slurm(hostile, ran, tmp_path):
    text, made = hostile
    script = make_target("slurm", ["cpus=4", f"bin={tmp_path / 'bin'}"]).render(made)
    found = ran(script)
    assert (found.folder, found.sweep) == (made.folder, made.sweep)
    assert found.words[0] == "run"
    assert found.words[2:] == given(["--out", text, "--workers", "4", "--threads", "1"], text)


def test_slurm_over_several_nodes(job, ran, tmp_path):
    folder = tmp_path / HOSTILE[-2]
    folder.mkdir()
    made = job(folder=str(folder), out=HOSTILE[-2], flags=Flags(metrics_port=9464))
    number, port, held = free_job()
    with held:
        script = make_target("slurm", ["nodes=2", "cpus=4"]).render(made)
        found = ran(script, SLURM_JOB_ID=str(number), SLURM_JOB_NODELIST="n[0-1]")
    assert found.words[2:4] == ["--out", HOSTILE[-2]]
    assert found.words[-2:] == ["--address", f"127.0.0.1:{port}"]
    head, other = sorted(found.calls["srun"], key=lambda call: "--head" not in call)
    assert "--nodelist=n0" in head
    assert "--nodelist=n1" in other
    assert all("--metrics-export-port=9464" in call for call in (head, other))


def free_job():
    """A job's number whose port is free, the port, and what listens there as Ray's head would."""
    for number in range(os.getpid(), os.getpid() + 100):
        port = 10000 + number % 2200 * 10
        try:
            return number, port, socket.create_server(("127.0.0.1", port))
        except OSError:
            continue
    raise AssertionError("no port is free")


def test_ray(hostile, ran, tmp_path):
    text, made = hostile
    request = yaml.safe_load(make_target("ray", ["workers=2"]).render(made))
    assert request["working_dir"] == {"sweep.yaml": made.sweep}
    (tmp_path / "sweep.yaml").write_bytes(made.sweep.encode())
    found = ran(request["entrypoint"])
    assert (found.folder, found.sweep) == (made.folder, made.sweep)
    words = ["run", str(tmp_path / "sweep.yaml"), "--out", text, "--address", "auto"]
    assert found.words == given([*words, "--workers", "2"], text)


def test_kuberay_refuses_what_its_shells_would_split(hostile, job):
    _, made = hostile
    target = make_target("kuberay", ["image=x/y:1", "claim=data"])
    with pytest.raises(ConfigError, match="--out"):
        target.render(made)
    with pytest.raises(ConfigError, match="--tracking-uri"):
        target.render(job(flags=made.flags))
    resource, _ = yaml.safe_load_all(target.render(job(sweep=made.sweep)))
    assert resource["data"] == {"sweep.yaml": made.sweep}


@pytest.mark.parametrize("text", HOSTILE)
def test_no_job_has_a_name_that_is_no_folder(job, text):
    with pytest.raises(ConfigError, match="sweep name"):
        job(name=text)
