"""JSON of any shape in a request, bounded by its number of values.

A megabyte of JSON may hold 350,000 empty lists, which take 25 MiB as Python objects, and as much again for each copy.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator

MOST_VALUES = 50_000


def require_few_values(given: Any) -> Any:
    """Return what was given. Raises ValueError when it holds more than MOST_VALUES values, at any depth."""
    left, pending = MOST_VALUES, [given]
    while pending:
        value = pending.pop()
        if isinstance(value, dict | list):
            left -= len(value)
            if left < 0:
                raise ValueError(f"holds more than {MOST_VALUES:,} values; send less at once")
            pending.extend(value.values() if isinstance(value, dict) else value)
    return given


FreeObject = Annotated[dict[str, Any], BeforeValidator(require_few_values)]
"""A JSON object that this service stores or passes on as it is."""
