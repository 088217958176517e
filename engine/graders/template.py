"""Templates: `{{item.x}}` and `{{sample.output_text}}` stand for a row's values."""

import json
import re
from typing import Any

import orjson

from engine.graders.errors import GraderError
from engine.rows import is_too_deep

_VARIABLE = re.compile(r"\{\{([^{}]+)\}\}")
_MAX_CHARACTERS = 100_000
"""In a text to compare: a template may repeat a value, and a comparison takes the product of both lengths."""


def filled(template: str, row: dict[str, Any]) -> str:
    """Fill a template with the row's values: strings as they are, all else as JSON.

    Raises:
        GraderError: the row lacks a variable, or the text is too long; it is not built further than the limit.
    """
    text = ""
    for place, piece in enumerate(_VARIABLE.split(template)):
        text += _spelled(value(piece.strip(), row)) if place % 2 else piece
        if len(text) > _MAX_CHARACTERS:
            raise GraderError(f"texts over {_MAX_CHARACTERS:,} characters are not compared")
    return text


def value(path: str, row: dict[str, Any]) -> Any:
    """Return the value at `item.a.b` in the row.

    Raises:
        GraderError: there is none.
    """
    found: Any = row
    for part in path.split("."):
        if not isinstance(found, dict) or part not in found:
            raise GraderError(f"the row has no {path!r}", "invalid_variable_error")
        found = found[part]
    return found


def sample_of(text: str) -> dict[str, Any]:
    """Return the sample of an answer: `output_text`, and `output_json` if it is JSON no deeper than a row may be."""
    sample = {"output_text": text}
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return sample
    return sample if is_too_deep(read) else sample | {"output_json": read}


def _spelled(found: Any) -> str:
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
