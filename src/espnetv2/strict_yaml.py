"""YAML in which no key occurs twice: plain YAML would keep the last one, and lose a class or a setting without a word."""

from __future__ import annotations

from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


def load(text: str) -> Any:
    """The content of a document.

    Raises:
        yaml.YAMLError: it is not valid, a value is not what its form says, or a key occurs twice.
    """
    try:
        return yaml.load(text, _Loader)
    except (ValueError, KeyError) as error:
        # PyYAML lets through what fails when it converts a value, such as the date 2024-13-45.
        raise yaml.YAMLError(f"a value is not what its form says: {error}; put it in quotes") from error
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error


class _Loader(yaml.SafeLoader):
    # Not when mappings are constructed: by then, those that are merged into others have been rewritten.
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f'the key "{key.value}" occurs twice', key.start_mark)
            seen.add((key.tag, key.value))
        return node
