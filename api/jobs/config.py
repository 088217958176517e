"""What a job runs with, and where each value comes from: the kind's default, `auto`, or who submitted it."""

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
    """Raises ApiError 404 when the project has no such job."""
    with service.database.read() as session:
        spec = find(session, caller, job_id).spec
    paths = () if _taken(spec) is None else _leaves(spec)
    return JobConfig(id=job_id, spec=spec, origins={".".join(path): _origin(spec, path) for path in paths})


def _taken(spec: dict[str, Any]) -> AnySpec | None:
    """What it asks for, if it is a spec: an older release may have taken more."""
    try:
        return JOB_SPEC.validate_python(spec)
    except ValidationError:
        return None


def _leaves(part: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    """The paths of all values; a list is one value, and so is an empty object."""
    for key, value in part.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def _origin(spec: dict[str, Any], path: Path) -> Origin:
    """A value that comes back by itself when it is left out was not needed: a default, or what `auto` stands for.

    One that tells of which shape its part is, as `tuning.method` does, goes with that part: it is needed where anything
    in it is.
    """
    for length in range(len(path), 0, -1):
        place = path[:length]
        asked = _taken(_without(spec, place))
        if asked is not None:
            left, resolved = (_value(kind.model_dump(mode="json"), place) for kind in (asked, resolve(asked)))
            if resolved != _at(spec, place):
                return "set"
            return "default" if left == resolved and left != "auto" else "auto"
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
    """The value at a path, or None where the shape is another one without it."""
    for key in path:
        part = part.get(key) if isinstance(part, dict) else None
    return part
