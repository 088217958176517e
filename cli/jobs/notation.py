"""Parser of specs in YAML and JSON: what would be lost silently, or has no JSON form, is an error."""

import json
from typing import Any

import yaml

from cli.errors import CommandError, Exit


def parsed(text: str, source: str) -> Any:
    """Parse YAML or JSON.

    Raises:
        CommandError: the text is neither, repeats a name in a group, or has a value without a JSON form.
    """
    try:
        value = _read(text, source)
        _require_json(value, source)
    except RecursionError:
        raise CommandError(f"{source}: nested too deeply, or containing itself.", Exit.INVALID) from None
    return value


def _read(text: str, source: str) -> Any:
    """Parse JSON first: YAML 1.1 refuses tabs, reads 1e-05 as a string, and emojis written as two escapes as two characters."""
    not_json = ""
    try:
        if text.lstrip().startswith("{"):
            try:
                return json.loads(text, object_pairs_hook=_once_each)
            except ValueError as error:
                not_json = f"; nor JSON: {error}"
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except _Repeated as error:
        raise CommandError(f"{source}{_place(error.mark)}: {error}", Exit.INVALID) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: `2024-99-99` looks like a date
        place = _place(getattr(error, "problem_mark", None))
        message = f"{source}{place}: not YAML: {getattr(error, 'problem', error)}{not_json}"
        raise CommandError(message, Exit.INVALID) from error


def _place(mark: yaml.Mark | None) -> str:
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


class _Repeated(Exception):
    """A name is repeated in one group, so that one of its values would be lost."""

    def __init__(self, name: str, mark: yaml.Mark | None = None) -> None:
        super().__init__(f"the name {name!r} is repeated in one group")
        self.mark = mark


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    group: dict[str, Any] = {}
    for name, value in pairs:
        if name in group:
            raise _Repeated(name)
        group[name] = value
    return group


_MERGE = "tag:yaml.org,2002:merge"
"""The tag of `<<`, which is not a name and may be repeated: each merges another group."""


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses repeated names in a group, where PyYAML silently takes the last value."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Checked before values are constructed: by then the names merged by `<<` are mixed with the mapping's own.
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for name, _ in node.value:
            if not isinstance(name, yaml.ScalarNode) or name.tag == _MERGE:
                continue
            if (name.tag, name.value) in seen:
                raise _Repeated(name.value, name.start_mark)
            seen.add((name.tag, name.value))
        return node


def _require_json(value: Any, source: str, path: str = "") -> None:
    """Check that a YAML value can be sent as JSON.

    Raises:
        CommandError: a value has no JSON form; the message names its place in the spec.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            _require_json(inner, source, f"{path}.{name}".removeprefix("."))
        fault = next((found for name in value if (found := _fault_of_name(name))), None)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _require_json(inner, source, f"{path}[{index}]")
        fault = None
    else:
        fault = _fault_of(value)
    if fault:
        place = ascii(path)[1:-1]
        raise CommandError(f"{source}: {place + ': ' if place else ''}{fault}", Exit.INVALID)


def _fault_of_name(name: Any) -> str | None:
    return _fault_of(name) if isinstance(name, str) else f"the name {name!r} is not text"


def _fault_of(value: Any) -> str | None:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except TypeError:
        return f"{value} is read as a {type(value).__name__}; write it in quotes"
    except UnicodeEncodeError:
        return f"{value!a} holds half a character (a lone surrogate)"
    except ValueError:
        return f"{value} is not a number in JSON"
    return None
