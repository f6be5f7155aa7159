"""KubeRay: a RayJob with a cluster of its own, which goes when the job is done."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, ClassVar

from editsweep.errors import ConfigError, WorkerError
from editsweep.launch.job import SWEEP_FILE, Job, Submitted, as_yaml, at_least, quoted, spread
from editsweep.run.layout import Machine

LONGEST_NAME = 47  # KubeRay adds to it, and 63 is Kubernetes' bound
SWEEP_FOLDER = "/etc/editsweep"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_QUANTITY = re.compile(r"\d+(\.\d+)?([KMGT]i?)?")
_IMAGE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/@-]*")


@dataclass(frozen=True)
class KubeRay:
    """A RayJob. `image` has EditSweep and Ray, of the version `ray`.

    `workers` pods of `cpus` cores, `gpus` GPUs and `memory` each edit; the head, of the same `cpus`
    and `memory`, runs the driver. `claim` is the PersistentVolumeClaim at `folder`, from which
    relative paths start and where results go. `secret` has the token under `auth_token`; without it
    KubeRay makes one. `keep` is how many seconds the pods stay after the end, `deadline` how many
    the job may take.
    """

    name: ClassVar[str] = "kuberay"
    image: str
    claim: str
    folder: str = "/data"
    workers: int = 1
    cpus: int = 4
    gpus: int = 0
    memory: str = "16Gi"
    namespace: str = "default"
    secret: str = ""
    ray: str = "2.60.0"
    keep: int = 600
    deadline: int | None = None

    def __post_init__(self) -> None:
        """Refuse what Kubernetes would refuse, and what it would misread."""
        for name, least in (("workers", 1), ("cpus", 1), ("gpus", 0), ("keep", 0), ("deadline", 1)):
            at_least(name, getattr(self, name), least)
        for name in ("claim", "namespace", "secret"):
            value = getattr(self, name)
            if not _LABEL.fullmatch(value) and (value or name != "secret"):
                raise ConfigError(f"{name} {value!r}: use small letters, digits and '-'")
        if not _IMAGE.fullmatch(self.image):
            raise ConfigError(f"image {self.image!r} is not the name of an image")
        if not _QUANTITY.fullmatch(self.memory):
            raise ConfigError(f"memory {self.memory!r}: write e.g. 16Gi")
        if not re.fullmatch(r"\d+\.\d+\.\d+", self.ray):
            raise ConfigError(f"ray {self.ray!r}: write the version in the image, e.g. 2.60.0")
        if not re.fullmatch(r"/[^\0-\x1f]*", self.folder):
            raise ConfigError(f"folder {self.folder!r}: write an absolute path")

    def render(self, job: Job) -> str:
        """Two resources as YAML: the sweep's text, and the job that runs it.

        Raises:
            ConfigError: a word of the command would need quotes, or the pods do not hold the
                workers.
        """
        return as_yaml(self._sweep(job), self._job(job))

    def submit(self, job: Job) -> Submitted:
        """Apply the resources with kubectl; those that are there already stay as they are.

        Raises:
            ConfigError: there is no kubectl here.
            WorkerError: the cluster does not take them.
        """
        if shutil.which("kubectl") is None:
            raise ConfigError(
                "there is no kubectl here: install it, or write the manifest with --dry-run and "
                "apply it where there is one"
            )
        done = subprocess.run(
            ["kubectl", "apply", "--namespace", self.namespace, "--filename", "-"],
            input=self.render(job),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise WorkerError(f"Kubernetes does not take the job: {done.stderr.strip()}")
        name = _resource_name(job)
        where = f"--namespace {self.namespace}"
        return Submitted(
            name,
            "submitted",
            already="created" not in done.stdout,
            follow=(
                f"kubectl get rayjob {name} {where}",
                f"kubectl logs {where} --selector job-name={name}",
                f"kubectl delete rayjob {name} {where}",
            ),
        )

    def _sweep(self, job: Job) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self._metadata(job),
            "data": {SWEEP_FILE: job.sweep},
        }

    def _metadata(self, job: Job) -> dict[str, Any]:
        labels = {"app.kubernetes.io/managed-by": "editsweep", "editsweep/sweep-id": job.sweep_id}
        return {"name": _resource_name(job), "namespace": self.namespace, "labels": labels}

    def _entrypoint(self, job: Job) -> str:
        """KubeRay hands this from one shell to another: no word of it may need quotes."""
        words = (
            *("editsweep", "run", f"{SWEEP_FOLDER}/{SWEEP_FILE}"),
            *("--out", str(PurePosixPath(self.folder, job.out)), "--address", "auto"),
            *spread(self.workers, Machine(self.cpus, self.gpus), job),
            *job.flags.words(),
        )
        for option, word in pairwise(words):
            if quoted([word]) != word:
                raise ConfigError(f"{option} {word!r}: no spaces, quotes or shell signs")
        return " ".join(words)

    def _job(self, job: Job) -> dict[str, Any]:
        auth = {"mode": "token"} | ({"secretName": self.secret} if self.secret else {})
        port = job.flags.metrics_port
        metrics = {} if port is None else {"metrics-export-port": str(port)}
        deadline = {} if self.deadline is None else {"activeDeadlineSeconds": self.deadline}
        return {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": self._metadata(job),
            "spec": {
                "entrypoint": self._entrypoint(job),
                "backoffLimit": 0,
                "shutdownAfterJobFinishes": True,
                "ttlSecondsAfterFinished": self.keep,
                **deadline,
                "rayClusterSpec": {
                    "rayVersion": self.ray,
                    "authOptions": auth,
                    "headGroupSpec": {
                        "rayStartParams": {"num-cpus": "0", "num-gpus": "0", **metrics},
                        "template": self._pod(job, "ray-head", 0),
                    },
                    "workerGroupSpecs": [
                        {
                            "groupName": "workers",
                            "replicas": self.workers,
                            "minReplicas": self.workers,
                            "maxReplicas": self.workers,
                            "rayStartParams": metrics,
                            "template": self._pod(job, "ray-worker", self.gpus),
                        }
                    ],
                },
            },
        }

    def _pod(self, job: Job, name: str, gpus: int) -> dict[str, Any]:
        needs: Mapping[str, Any] = {"cpu": str(self.cpus), "memory": self.memory} | (
            {"nvidia.com/gpu": str(gpus)} if gpus else {}
        )
        container = {
            "name": name,
            "image": self.image,
            "workingDir": self.folder,
            "resources": {"requests": dict(needs), "limits": dict(needs)},
            "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
            "volumeMounts": [
                {"name": "data", "mountPath": self.folder},
                {"name": "sweep", "mountPath": SWEEP_FOLDER, "readOnly": True},
            ],
        }
        volumes = [
            {"name": "data", "persistentVolumeClaim": {"claimName": self.claim}},
            {"name": "sweep", "configMap": {"name": _resource_name(job)}},
        ]
        return {"spec": {"containers": [container], "volumes": volumes}}


def _resource_name(job: Job) -> str:
    """The id as Kubernetes allows it: small letters, digits, '-', at most `LONGEST_NAME` long."""
    name = re.sub(r"[^a-z0-9]+", "-", job.name.lower()).strip("-")
    room = LONGEST_NAME - len("es--") - 12
    return f"es-{name[:room].strip('-')}-{job.sweep_id[:12]}"
