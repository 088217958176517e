"""Flaws of rows and their messages, and the turns that conversations are made of."""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, NotRequired, TypedDict

ROLES = ("system", "user", "assistant", "tool")

_VALUE_CHARACTERS = 60
_EMPTY_TEXTS = ("[]", "{}", "null")
"""What some data sets write where there are no tools."""
_BARE = 2
"""Keys of a turn that has nothing but its role and content."""


class Message(TypedDict):
    """One turn of a conversation. An answer with `weight` 0 is context and not trained on (OpenAI's field)."""

    role: str
    content: str
    weight: NotRequired[int]


class Flaw(NamedTuple):
    """A fault of a row; `path` is its place, e.g. `messages[2].role`."""

    code: str
    path: str
    message: str
    value: str | None = None
    hint: str | None = None


class RowError(ValueError):
    """A row that cannot be trained on."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(f"{flaw.path}: {flaw.message}" if flaw.path else flaw.message)
        self.flaw = flaw


def excerpt(value: object) -> str:
    """Return a JSON value short enough for an error message and safe to print on a terminal."""
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    if isinstance(value, list):
        return f"a list with {len(value)} items"
    text = value if isinstance(value, str) else json.dumps(value)
    cut = text if len(text) <= _VALUE_CHARACTERS else text[: _VALUE_CHARACTERS - 1] + "…"
    return "".join(character if character.isprintable() else "�" for character in cut)


def did_you_mean(unknown: str, known: Sequence[str]) -> str | None:
    """Return the known name nearest to a mistyped one, or None when nothing is near."""
    near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.6)
    return near[0] if near else None


_near = lru_cache(maxsize=1024)(did_you_mean)
"""The rows of a file repeat each other's mistakes."""


def nearest(unknown: str, known: tuple[str, ...]) -> str | None:
    """Return a 'did you mean' sentence for a mistyped name, or None when nothing is near."""
    near = _near(unknown[:_VALUE_CHARACTERS].lower(), known)
    return f"did you mean {near!r}?" if near else None


def mistyped_key(wanted: str, keys: Iterable[str]) -> str | None:
    """Return a question that names the key which may be a mistyped `wanted`, or None when nothing is near."""
    near = _near(wanted, tuple(key[:_VALUE_CHARACTERS] for key in islice(keys, 32)))
    return f"is {near!r} meant to be {wanted!r}?" if near else None


def wrong_type(path: str, wanted: str, value: object) -> Flaw:
    return Flaw("wrong_type", path, f"{path} must be {wanted}", excerpt(value))


def is_sound(message: object) -> bool:
    """Whether a turn has no flaw: a quick test for large files. `message_flaws` names the flaws."""
    if not isinstance(message, dict):
        return False
    role, content = message.get("role"), message.get("content")
    sound = role in ROLES and isinstance(content, str) and (role != "assistant" or bool(content.strip()))
    return sound and (len(message) == _BARE or (_is_weight(message.get("weight")) and not _unwritten(message)))


def _unwritten(message: dict[str, Any]) -> list[str]:
    """Return the keys of a turn whose values are beside the content and would not reach the chat template."""
    return [key for key in ("tool_calls", "function_call") if message.get(key)]


def _is_weight(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value in {0, 1})


def message_flaws(message: object, path: str) -> Iterator[Flaw]:
    if not isinstance(message, dict):
        yield wrong_type(path, "an object with role and content", message)
        return
    for key in ("role", "content"):
        if key not in message:
            yield Flaw("missing_field", f"{path}.{key}", f"{path} has no {key!r}", None, mistyped_key(key, message))
        elif not isinstance(message[key], str):
            yield wrong_type(f"{path}.{key}", "a string", message[key])
    role, content = message.get("role"), message.get("content")
    if isinstance(role, str) and role not in ROLES:
        hint = nearest(role, ROLES) or "known roles: " + ", ".join(ROLES)
        yield Flaw("unknown_role", f"{path}.role", f"{path}.role is not a known role", excerpt(role), hint)
    if role == "assistant" and isinstance(content, str) and not content.strip():
        yield Flaw("empty_answer", f"{path}.content", f"{path}.content is empty: there is nothing to learn from")
    if not _is_weight(message.get("weight")):
        hint = "0 leaves the answer untrained, 1 trains it, as does no weight at all"
        yield Flaw("bad_weight", f"{path}.weight", f"{path}.weight must be 0 or 1", excerpt(message["weight"]), hint)
    for key in _unwritten(message):
        text = f"{path}.{key} is beside the content, and only the content is trained on"
        hint = "write the call into content, as the model is to write it"
        yield Flaw("not_in_content", f"{path}.{key}", text, excerpt(message[key]), hint)


def tool_flaws(row: dict[str, Any], path: str = "") -> Iterator[Flaw]:
    """Yield a flaw for tools that a row declares: no turn names them, so a model would learn to call unknown tools."""
    for key in ("tools", "functions"):
        if row.get(key) and row[key] not in _EMPTY_TEXTS:
            text = f"{path}{key} is not part of any turn, and only turns are trained on"
            hint = "describe the tools in a system turn, as the model will see them, and leave the key out or empty"
            yield Flaw("not_in_content", f"{path}{key}", text, excerpt(row[key]), hint)
