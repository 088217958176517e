"""The configuration of a job, with the origin of each value: a default, `auto`, or the submission."""

import copy
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from api.auth import Caller
from api.deps import Service
from api.jobs.schemas import JobConfig
from api.jobs.service import find
from engine.jobs import JOB_SPEC, AnySpec, resolve

Origin: TypeAlias = Literal["default", "auto", "set"]
Path: TypeAlias = tuple[str, ...]


def config(service: Service, caller: Caller, job_id: str) -> JobConfig:
    """Return the configuration of a job. Raises ApiError 404 when the project has no such job."""
    with service.database.read() as session:
        spec = find(session, caller, job_id).spec
    paths = () if _parsed(spec) is None else _leaves(spec)
    return JobConfig(id=job_id, spec=spec, origins={".".join(path): _origin(spec, path) for path in paths})


def _parsed(spec: dict[str, Any]) -> AnySpec | None:
    """Return the spec, or None when it is not valid now: an older release may have accepted more."""
    try:
        return JOB_SPEC.validate_python(spec)
    except ValidationError:
        return None


def _leaves(part: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    """Yield the paths of all values; a list counts as one value, and so does an empty object."""
    for key, value in part.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def _origin(spec: dict[str, Any], path: Path) -> Origin:
    """Return the origin of a value: it was set unless the spec without it resolves to the same value.

    A value that the shape of its part depends on, as `tuning.method`, cannot be left out by itself; its whole part is.
    """
    for length in range(len(path), 0, -1):
        place = path[:length]
        parsed = _parsed(_without(spec, place))
        if parsed is not None:
            default, resolved = (_value(each.model_dump(mode="json"), place) for each in (parsed, resolve(parsed)))
            if resolved != _at(spec, place):
                return "set"
            return "default" if default == resolved and default != "auto" else "auto"
    return "set"


def _without(spec: dict[str, Any], path: Path) -> dict[str, Any]:
    left = copy.deepcopy(spec)
    del _at(left, path[:-1])[path[-1]]
    return left


def _at(part: dict[str, Any], path: Path) -> Any:
    for key in path:
        part = part[key]
    return part


def _value(part: Any, path: Path) -> Any:
    """Return the value at a path, or None where the spec has another shape without it."""
    for key in path:
        part = part.get(key) if isinstance(part, dict) else None
    return part
