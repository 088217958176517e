"""The limit on the nesting of JSON values."""

from typing import Any

MAX_DEPTH = 100
"""orjson reads 1024 levels and writes 254; values that are read here are stored and shown inside other objects."""
_NESTING = (dict, list)


def is_too_deep(value: Any) -> bool:
    """Whether objects and lists nest deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [node for node in level if isinstance(node, _NESTING)]
        if not level:
            return False
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return True
