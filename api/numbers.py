"""Numbers of a request as JSON Schema means them: 5.0 is a whole number, "5" and true are none."""

from typing import Any

from pydantic import BeforeValidator


def _whole(given: Any) -> Any:
    return int(given) if isinstance(given, float) and given.is_integer() else given


WHOLE = BeforeValidator(_whole)
"""Stands behind a strict int and its bounds: Annotated[int, Field(strict=True, ge=1), WHOLE]."""
