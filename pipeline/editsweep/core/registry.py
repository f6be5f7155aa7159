"""Lazy tables from a name to `module:attribute`, open to other packages.

Listing names imports nothing. A package outside the tree adds a name with an entry point of the
table's group, e.g. `[project.entry-points."editsweep.editors"]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from editsweep.core.names import unknown


@dataclass(frozen=True)
class Registry:
    """One table. `kind` is the word for messages, `group` the entry-point group."""

    kind: str
    group: str
    table: Mapping[str, str]

    def names(self) -> tuple[str, ...]:
        """Every name, our own first in the table's order, then others' sorted."""
        others = sorted({e.name for e in entry_points(group=self.group)} - set(self.table))
        return (*self.table, *others)

    def load(self, name: str) -> Any:
        """The object that `name` stands for.

        Raises:
            ConfigError: there is no such name; the message has the nearest one.
        """
        if name in self.table:
            module, attribute = self.table[name].split(":")
            return getattr(import_module(module), attribute)
        for entry in entry_points(group=self.group):
            if entry.name == name:
                return entry.load()
        raise unknown(self.kind, name, self.names())
