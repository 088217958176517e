"""Integers as JSON Schema defines them: 5.0 is one, "5" and true are not."""

from typing import Any

from pydantic import BeforeValidator


def _whole(given: Any) -> Any:
    return int(given) if isinstance(given, float) and given.is_integer() else given


WHOLE = BeforeValidator(_whole)
"""Accepts 5.0 for a strict int: Annotated[int, Field(strict=True, ge=1), WHOLE]."""
