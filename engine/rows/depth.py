"""How deep a JSON value may nest."""

from typing import Any

MAX_DEPTH = 100
"""orjson reads 1024 levels and writes 254; what is read here is kept and shown inside other objects."""
_NESTING = (dict, list)


def is_too_deep(value: Any) -> bool:
    """Whether objects and lists stand in one another more than MAX_DEPTH deep."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [node for node in level if isinstance(node, _NESTING)]
        if not level:
            return False
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
    return True
