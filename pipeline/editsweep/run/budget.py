"""How many edits may fail before a run gives up: what is wrong with all need not be found out by all."""

from dataclasses import dataclass

from editsweep.errors import ConfigError


@dataclass(frozen=True)
class Budget:
    """So many failed edits of a sweep are borne: `count`, or a `share` of all of them."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """`20`, or `5%` of the sweep's edits.

        Raises:
            ConfigError: it is neither.
        """
        number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
        try:
            if percent and 0 <= float(number) <= 100:
                return cls(share=float(number) / 100)
            if not percent and int(number) >= 0:
                return cls(count=int(number))
        except ValueError:
            pass
        raise ConfigError(
            f"--max-failures {text!r}: write a number of edits, e.g. 20, or a share of them, e.g. 5%"
        )

    def bears(self, failed: int, edits: int) -> bool:
        """Whether `failed` of all `edits` are not too many."""
        most = self.share * edits if self.share is not None else self.count
        return most is None or failed <= most

    def __str__(self) -> str:
        """As it is written."""
        if self.share is not None:
            return f"{100 * self.share:g}%"
        return str(self.count)
