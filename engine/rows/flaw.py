"""What may be wrong in a row and how it is told, and the turns that conversations are made of."""

import difflib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, NotRequired, TypedDict

ROLES = ("system", "user", "assistant", "tool")

_VALUE_CHARACTERS = 60
_EMPTY_TEXTS = ("[]", "{}", "null")
"""What some tables hold where there are no tools."""
_BARE = 2
"""Keys of a turn that has nothing but its role and content."""


class Message(TypedDict):
    """One turn of a conversation. `weight` 0 on an answer: it is read, not trained on (OpenAI's field of chat rows)."""

    role: str
    content: str
    weight: NotRequired[int]


class Flaw(NamedTuple):
    """What is wrong in one row; `path` is where, e.g. `messages[2].role`."""

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
    """A JSON value, short enough for an error message and safe to print on a terminal."""
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    if isinstance(value, list):
        return f"a list with {len(value)} items"
    text = value if isinstance(value, str) else json.dumps(value)
    cut = text if len(text) <= _VALUE_CHARACTERS else text[: _VALUE_CHARACTERS - 1] + "…"
    return "".join(character if character.isprintable() else "�" for character in cut)


@lru_cache(maxsize=1024)
def _near(word: str, known: tuple[str, ...]) -> str | None:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return near[0] if near else None


def nearest(unknown: str, known: tuple[str, ...]) -> str | None:
    """A 'did you mean' sentence for a mistyped name, or None when nothing is near."""
    near = _near(unknown[:_VALUE_CHARACTERS].lower(), known)
    return f"did you mean {near!r}?" if near else None


def meant(wanted: str, keys: Iterable[str]) -> str | None:
    """Which of the keys may be a mistyped `wanted`."""
    near = _near(wanted, tuple(key[:_VALUE_CHARACTERS] for key in islice(keys, 32)))
    return f"is {near!r} meant to be {wanted!r}?" if near else None


def wrong_type(path: str, wanted: str, value: object) -> Flaw:
    return Flaw("wrong_type", path, f"{path} must be {wanted}", excerpt(value))


def is_sound(message: object) -> bool:
    """The quick way through the turns of a large sound file; `message_flaws` tells what is wrong in the others."""
    if not isinstance(message, dict):
        return False
    role, content = message.get("role"), message.get("content")
    sound = role in ROLES and isinstance(content, str) and (role != "assistant" or bool(content.strip()))
    return sound and (len(message) == _BARE or (_is_weight(message.get("weight")) and not _unwritten(message)))


def _unwritten(message: dict[str, Any]) -> list[str]:
    """What a turn says beside its content, and no template of ours is given."""
    return [key for key in ("tool_calls", "function_call") if message.get(key)]


def _is_weight(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value in {0, 1})


def message_flaws(message: object, path: str) -> Iterator[Flaw]:
    if not isinstance(message, dict):
        yield wrong_type(path, "an object with role and content", message)
        return
    for key in ("role", "content"):
        if key not in message:
            yield Flaw("missing_field", f"{path}.{key}", f"{path} has no {key!r}", None, meant(key, message))
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
        told = f"{path}.{key} stands beside the content, which alone is trained on"
        hint = "write the call into content, as the model is to write it"
        yield Flaw("not_in_content", f"{path}.{key}", told, excerpt(message[key]), hint)


def tool_flaws(row: dict[str, Any], path: str = "") -> Iterator[Flaw]:
    """Tools that a row declares: no turn tells of them, so a model would learn to call what it has never heard of."""
    for key in ("tools", "functions"):
        if row.get(key) and row[key] not in _EMPTY_TEXTS:
            told = f"{path}{key} is not part of any turn, and turns alone are trained on"
            hint = "tell of them in a system turn, as the model will be told, and leave the key out or empty"
            yield Flaw("not_in_content", f"{path}{key}", told, excerpt(row[key]), hint)
