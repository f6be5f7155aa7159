"""YAML as plain values: no tags, no anchors, no duplicate keys, `5e-4` is a number."""

import re
from typing import Any

import yaml

from editsweep.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """`SafeLoader` that refuses what a settings file never needs, naming the line."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.get_mark().line + 1
            raise ConfigError(f"line {line}: anchors and aliases are not used here; write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConfigError(f"line {line}: key {key!r} is not text; put it in quotes")
            if key in seen:
                raise ConfigError(f"line {line}: key {key!r} again, first in line {seen[key]}")
            seen[key] = line
        return super().construct_mapping(node, deep)


# YAML 1.1 reads `5e-4` as text, because it wants a point: the field writes learning rates so.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str, where: str) -> Any:
    """The value of a YAML `text`.

    Raises:
        ConfigError: it is not YAML, or uses tags, anchors or a key twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{where}: {line}{error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
