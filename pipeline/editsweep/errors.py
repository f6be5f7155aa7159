"""Every error that EditSweep raises on purpose.

EditSweepError
 ├─ ConfigError   a sweep file, an option or a name is wrong; nothing has run yet
 ├─ DataError     a record of a dataset is wrong; says file, line and field
 ├─ ModelError    a model cannot be found, loaded or matched to a family
 ├─ EditError     an editor cannot do one edit; becomes a failure row, never stops a sweep
 ├─ StoreError    a folder of results is locked, damaged or belongs to another sweep
 └─ WorkerError   a worker could not be started or kept alive

All of them cross process borders: each is built from plain positional arguments, so pickle can
rebuild it.
"""


class EditSweepError(Exception):
    """Base of all errors raised on purpose; the message tells the user what to do."""


class ConfigError(EditSweepError, ValueError):
    """A sweep file, an option or a name is wrong; found before anything runs."""


class DataError(EditSweepError, ValueError):
    """A record of a dataset is wrong; the message names file, line and field."""


class ModelError(EditSweepError, RuntimeError):
    """A model cannot be found, loaded or matched to a family."""


class EditError(EditSweepError, RuntimeError):
    """One edit cannot be done; recorded as a row with `kind` and the reason.

    Args:
        kind: a short stable word, e.g. `no_subject`, `not_finite`.
        reason: a sentence for a person.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason

    def __str__(self) -> str:
        """The reason, led by its kind."""
        return f"{self.kind}: {self.reason}"


class StoreError(EditSweepError, RuntimeError):
    """A folder of results is locked, damaged or belongs to another sweep."""


class WorkerError(EditSweepError, RuntimeError):
    """A worker could not be started or kept alive."""
