"""YAML and JSON as specs are written in them: what would be lost in silence, or has no JSON, is an error."""

import json
from typing import Any

import yaml

from cli.errors import CommandError, Exit


def parsed(text: str, source: str) -> Any:
    """What a text says.

    Raises:
        CommandError: neither YAML nor JSON, or a name stands twice, or a value has no JSON.
    """
    try:
        value = _read(text, source)
        _require_json(value, source)
    except RecursionError:
        raise CommandError(f"{source}: nested too deeply, or a part of itself.", Exit.INVALID) from None
    return value


def _read(text: str, source: str) -> Any:
    """JSON is tried first: to YAML 1.1 tabs are no space, 1e-05 is no number, and an emoji may be two escapes."""
    not_json = ""
    try:
        if text.lstrip().startswith("{"):
            try:
                return json.loads(text, object_pairs_hook=_once_each)
            except ValueError as error:
                not_json = f"; nor JSON: {error}"
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except _Twice as error:
        raise CommandError(f"{source}{_place(error.mark)}: {error}", Exit.INVALID) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: `2024-99-99` looks like a date
        place = _place(getattr(error, "problem_mark", None))
        told = f"{source}{place}: not YAML: {getattr(error, 'problem', error)}{not_json}"
        raise CommandError(told, Exit.INVALID) from error


def _place(mark: yaml.Mark | None) -> str:
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


class _Twice(Exception):
    """Of two values under one name, one would be lost."""

    def __init__(self, name: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(f"the name {name!r} stands twice in one group")
        self.mark = mark


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for name, value in pairs:
        if name in told:
            raise _Twice(name)
        told[name] = value
    return told


_MERGE = "tag:yaml.org,2002:merge"
"""Of `<<`, which is no name: each brings what another group holds."""


class _Loader(yaml.SafeLoader):
    """YAML, but no name stands twice in one group: PyYAML takes the last one and says nothing."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here and not where values are made: by then what `<<` brings lies among a mapping's own names.
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode) or name.tag == _MERGE:
                continue
            if (name.tag, name.value) in seen:
                raise _Twice(name.value, name.start_mark)
            seen.add((name.tag, name.value))
        return node


def _require_json(value: Any, source: str, path: str = "") -> None:
    """YAML knows more than the JSON that goes over the wire.

    Raises:
        CommandError: a value that has no JSON, with its place in the spec.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            _require_json(inner, source, f"{path}.{name}".removeprefix("."))
        fault = next((told for name in value if (told := _fault_of_name(name))), None)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _require_json(inner, source, f"{path}[{index}]")
        fault = None
    else:
        fault = _fault_of(value)
    if fault:
        told = ascii(path)[1:-1]
        raise CommandError(f"{source}: {told + ': ' if told else ''}{fault}", Exit.INVALID)


def _fault_of_name(name: Any) -> str | None:
    return _fault_of(name) if isinstance(name, str) else f"the name {name!r} is no text"


def _fault_of(value: Any) -> str | None:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except TypeError:
        return f"{value} is read as a {type(value).__name__}; write it in quotes"
    except UnicodeEncodeError:
        return f"{value!a} holds half a character (a lone surrogate)"
    except ValueError:
        return f"{value} is no number that JSON can hold"
    return None
