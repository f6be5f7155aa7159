"""Sweeps on other people's schedulers: what is submitted is rendered first, purely, then handed over.

A target is a frozen dataclass of settings; `render` gives the whole text that is submitted, and
`submit` hands exactly this text over.
"""

from editsweep.core.registry import Registry

TARGETS = Registry(
    "target",
    "editsweep.targets",
    {
        "ray": "editsweep.launch.ray_jobs:RayJobs",
        "slurm": "editsweep.launch.slurm:Slurm",
        "kuberay": "editsweep.launch.kuberay:KubeRay",
    },
)
