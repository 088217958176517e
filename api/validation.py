"""Pydantic's validation errors as faults of the API: with path, value and mend."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel

from api.errors import ApiError, Fault
from engine.jobs import SPECS
from engine.rows import did_you_mean
from engine.rows.formats import excerpt

_LISTED_FAULTS = 1000
"""How many faults are listed; each costs a search for its mend, so the others are only counted."""
_ABSENT = object()
_CODES = {
    "extra_forbidden": "unknown_key",
    "missing": "missing",
    "union_tag_not_found": "missing",
    "union_tag_invalid": "unknown_value",
    "literal_error": "unknown_value",
    "value_error": "invalid_value",
}


def invalid(problems: Iterable[Mapping[str, Any]], body: Any = None) -> ApiError:
    """Return the 422 for pydantic's list of problems with a body or with parameters."""
    found = list(problems)
    faults = _merged([_fault(problem, body) for problem in found[:_LISTED_FAULTS]])
    first, rest = faults[0], len(faults) - 1 + max(0, len(found) - _LISTED_FAULTS)
    more = f" (and {rest:,} more)" if rest else ""
    message = "; ".join(filter(None, (_with_its_place(first), first.hint)))
    return ApiError(422, first.code, message + more, param=first.path or None, faults=faults)


def _with_its_place(fault: Fault) -> str:
    """Return the message with the path before it, unless it begins with the path already, as validators' messages may."""
    names_it = fault.code == "invalid_value" and fault.message.split(" ")[0].rstrip(":") == fault.path
    return fault.message if names_it or not fault.path else f"{fault.path}: {fault.message}"


def _merged(faults: list[Fault]) -> list[Fault]:
    """Merge the faults of each path: every branch of a union reports the same value."""
    merged: dict[str, Fault] = {}
    for fault in faults:
        known = merged.setdefault(fault.path, fault)
        if known is not fault and fault.message not in known.message:
            message = f"{known.message}, or {fault.message.removeprefix('must be ')}"
            merged[fault.path] = known.model_copy(update={"message": message})
    return list(merged.values())


def _fault(problem: Mapping[str, Any], body: Any) -> Fault:
    kind, given, context = problem["type"], problem.get("input"), problem.get("ctx", {})
    path = _path(problem["loc"], body, keep_last=kind in {"missing", "extra_forbidden"})
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    hint = None
    if kind == "extra_forbidden":
        message, hint = "unknown key", _hint(str(path[-1]), _known_keys(body, path[:-1]))
    elif kind == "missing":
        message, given = "is required", None
    elif kind in {"union_tag_not_found", "union_tag_invalid"}:
        path.append(context["discriminator"].strip("'"))
        given, tags = context.get("tag"), _quoted(context.get("expected_tags", ""))
        message = f"must be one of {', '.join(tags or SPECS)}" if given is not None else "is required"
        hint = _hint(given, tags) if given is not None else None
    elif kind == "literal_error" and isinstance(given, str):
        hint = _hint(given, _quoted(context["expected"]))
    elif kind == "value_error":
        for named in message.split()[0].rstrip(":").split("."):
            if not isinstance(given, dict) or (named not in given and named not in _known_keys(body, path)):
                break
            path.append(named)
            given = given.get(named)
    value = None if given is None or isinstance(given, dict | list) else excerpt(given)
    return Fault(code=_CODES.get(kind, kind), path=_joined(path), message=message, value=value, hint=hint)


def _path(loc: Sequence[str | int], body: Any, *, keep_last: bool) -> list[str | int]:
    """Return the location without the tags of unions, which are no keys or indices of the body."""
    if not isinstance(body, dict):
        return list(loc)
    path: list[str | int] = []
    here: Any = body
    if loc and loc[0] == body.get("kind"):
        loc = loc[1:]  # the kinds are a union, and one of them has a key of its own name
    for index, part in enumerate(loc):
        child = _child(here, part)
        if child is not _ABSENT:
            here = child
        if child is not _ABSENT or (keep_last and index == len(loc) - 1):
            path.append(part)
    return path


def _child(value: Any, part: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(part, _ABSENT)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return _ABSENT


def _joined(path: list[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _hint(given: str, known: Sequence[str]) -> str | None:
    if not known:
        return None
    near = did_you_mean(given[:100], list(known))
    return f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _known_keys(body: Any, path: Sequence[str | int]) -> list[str]:
    """Return the keys that the part of a job spec at `path` may have."""
    kind = body.get("kind") if isinstance(body, dict) else None
    parts: list[type[BaseModel]] = [SPECS[kind]] if isinstance(kind, str) and kind in SPECS else []
    for key in path:
        parts = [part for model in parts for name in _fields(model, str(key)) for part in _models(name)]
    return sorted({name for model in parts for field in model.model_fields for name in _names(model, field)})


def _names(model: type[BaseModel], field: str) -> list[str]:
    alias = model.model_fields[field].validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [field]


def _fields(model: type[BaseModel], key: str) -> Iterator[Any]:
    return (info.annotation for field, info in model.model_fields.items() if key in _names(model, field))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield every model inside an annotation, through unions and `Annotated`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
