"""The options of `run` that a submitted job gives to it."""

from dataclasses import dataclass

from editsweep.core.scrub import scrubbed
from editsweep.errors import ConfigError
from editsweep.run.budget import Budget
from editsweep.run.layout import check_gpus


@dataclass(frozen=True)
class Flags:
    """Options as `run` has them; what is None is left to it.

    Raises:
        ConfigError: a value that `run` would refuse, or a password, which the job would show.
    """

    record: bool = True
    tracking_uri: str | None = None
    max_failures: str | None = None
    gpus_per_worker: float | None = None
    unit_timeout: float | None = None
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        """Refuse now what would end the job later."""
        if self.max_failures is not None:
            Budget.parse(self.max_failures)
        if self.gpus_per_worker is not None:
            check_gpus(self.gpus_per_worker)
        if self.unit_timeout is not None and self.unit_timeout <= 0:
            raise ConfigError(f"--unit-timeout {self.unit_timeout:g}: write seconds, more than 0")
        uri = self.tracking_uri or ""
        if scrubbed(uri) != uri:
            raise ConfigError(
                f"--tracking-uri {scrubbed(uri)}: leave the user and password out, everybody "
                "can read a job; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD there"
            )

    def words(self, own_cluster: bool = False) -> tuple[str, ...]:
        """As words of a command line.

        The port of metrics is among them where `run` starts a cluster of its own; one that is
        joined has it from `ray start`.
        """
        pairs = (
            ("--tracking-uri", self.tracking_uri),
            ("--max-failures", self.max_failures),
            ("--gpus-per-worker", _number(self.gpus_per_worker)),
            ("--unit-timeout", _number(self.unit_timeout)),
            ("--metrics-port", _number(self.metrics_port) if own_cluster else None),
        )
        given = tuple(word for option, value in pairs if value for word in (option, value))
        return given if self.record else ("--no-record", *given)


NO_FLAGS = Flags()


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.12g}"
