"""The row formats: which keys make one, what may be wrong in it, and how it reads as messages or text."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypedDict

FORMATS = ("chat", "completion", "instruction", "text_jsonl", "text")
ROLES = ("system", "user", "assistant", "tool")

# The formats that a purpose takes; of several that fit a row, the first one counts.
PURPOSES: dict[str, tuple[str, ...]] = {
    "fine-tune": ("chat", "completion", "instruction"),
    "pretrain": ("text_jsonl", "text"),
    "evals": ("chat", "completion", "instruction", "text_jsonl", "text"),
}

# The keys that a row of the format must have.
KEYS: dict[str, tuple[str, ...]] = {
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "instruction": ("instruction", "output"),
    "text_jsonl": ("text",),
}

EXAMPLES: dict[str, str] = {
    "chat": '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
    "completion": '{"prompt": "...", "completion": "..."}',
    "instruction": '{"instruction": "...", "input": "...", "output": "..."}',
    "text_jsonl": '{"text": "..."}',
}

_VALUE_CHARACTERS = 60


class Message(TypedDict):
    """One turn of a conversation, as chat templates take it."""

    role: str
    content: str


Row: TypeAlias = list[Message] | str
"""Messages for chat, completion and instruction; the text for text_jsonl."""


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


def _meant(wanted: str, keys: Iterable[str]) -> str | None:
    """Which of the keys may be a mistyped `wanted`."""
    near = _near(wanted, tuple(key[:_VALUE_CHARACTERS] for key in islice(keys, 32)))
    return f"is {near!r} meant to be {wanted!r}?" if near else None


def format_of_row(row: dict[str, Any], formats: tuple[str, ...]) -> str | None:
    """The first of `formats` whose keys are all there."""
    for name in formats:
        if name in KEYS and all(key in row for key in KEYS[name]):
            return name
    return None


def misfit(row: dict[str, Any], formats: tuple[str, ...]) -> Flaw:
    """Why a row is of none of `formats`."""
    for name in formats:
        missing = [key for key in KEYS.get(name, ()) if key not in row]
        if len(missing) == 1 and len(missing) < len(KEYS[name]):
            return _missing(missing[0], row, name)
    known = tuple(key for name in formats for key in KEYS.get(name, ()))
    keys = ", ".join(repr(excerpt(key)) for key in list(row)[:8]) or "none"
    hint = next(filter(None, (nearest(key, known) for key in list(row)[:32])), None)
    elsewhere = format_of_row(row, FORMATS)
    if hint is None and elsewhere is not None:
        purposes = " or ".join(repr(purpose) for purpose, takes in PURPOSES.items() if elsewhere in takes)
        hint = f"rows like this one are uploaded with purpose {purposes}"
    if hint is None:
        hint = "write rows like " + " or ".join(EXAMPLES[name] for name in formats if name in EXAMPLES)
    return Flaw("unknown_format", "", f"the keys of this row ({keys}) are those of no row format", keys, hint)


def _missing(key: str, row: dict[str, Any], name: str) -> Flaw:
    hint = _meant(key, (other for other in row if other not in KEYS[name])) or f"a row like this is {EXAMPLES[name]}"
    return Flaw("missing_field", key, f"the key {key!r} is missing", None, hint)


def flaws(row: dict[str, Any], name: str) -> Iterator[Flaw]:
    """Everything that is wrong in a row of the format."""
    for key in KEYS[name]:
        if key not in row:
            yield _missing(key, row, name)
            return
    yield from _FLAWS[name](row)


def _wrong_type(path: str, wanted: str, value: object) -> Flaw:
    return Flaw("wrong_type", path, f"{path} must be {wanted}", excerpt(value))


def _chat_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    messages = row["messages"]
    if not isinstance(messages, list):
        yield _wrong_type("messages", "a list of messages", messages)
        return
    unsound = False
    for index, message in enumerate(messages):
        if not _is_sound(message):
            unsound = True
            yield from _message_flaws(message, f"messages[{index}]")
    if unsound:
        return  # whose turns these are is not known
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        text = "messages has no assistant turn, so there is nothing to learn from" if messages else "messages is empty"
        yield Flaw("no_assistant_turn", "messages", text, None, 'add {"role": "assistant", "content": "..."}')
    elif roles[-1] != "assistant":
        path = f"messages[{len(messages) - 1}]"
        hint = "end the row with the answer, or leave the last turn out"
        yield Flaw("last_not_assistant", path, "the last turn is not the assistant's", excerpt(roles[-1]), hint)


def _is_sound(message: object) -> bool:
    """The quick way through the turns of a large sound file; `_message_flaws` tells what is wrong in the others."""
    if not isinstance(message, dict):
        return False
    role, content = message.get("role"), message.get("content")
    return role in ROLES and isinstance(content, str) and (role != "assistant" or bool(content.strip()))


def _message_flaws(message: object, path: str) -> Iterator[Flaw]:
    if not isinstance(message, dict):
        yield _wrong_type(path, "an object with role and content", message)
        return
    for key in ("role", "content"):
        if key not in message:
            yield Flaw("missing_field", f"{path}.{key}", f"{path} has no {key!r}", None, _meant(key, message))
        elif not isinstance(message[key], str):
            yield _wrong_type(f"{path}.{key}", "a string", message[key])
    role, content = message.get("role"), message.get("content")
    if isinstance(role, str) and role not in ROLES:
        hint = nearest(role, ROLES) or "known roles: " + ", ".join(ROLES)
        yield Flaw("unknown_role", f"{path}.role", f"{path}.role is not a known role", excerpt(role), hint)
    if role == "assistant" and isinstance(content, str) and not content.strip():
        yield Flaw("empty_answer", f"{path}.content", f"{path}.content is empty: there is nothing to learn from")


def _completion_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    yield from _strings(row, ("prompt", "completion"), answer="completion")


def _instruction_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    if row.get("input") is not None and not isinstance(row["input"], str):
        yield _wrong_type("input", "a string, null or left out", row["input"])
    yield from _strings(row, ("instruction", "output"), answer="output")


def _text_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    yield from _strings(row, ("text",), answer="text")


def _strings(row: dict[str, Any], keys: tuple[str, ...], answer: str) -> Iterator[Flaw]:
    for key in keys:
        if not isinstance(row[key], str):
            yield _wrong_type(key, "a string", row[key])
        elif key == answer and not row[key].strip():
            yield Flaw("empty_answer", key, f"{key} is empty: there is nothing to learn from")


_FLAWS: dict[str, Callable[[dict[str, Any]], Iterator[Flaw]]] = {
    "chat": _chat_flaws,
    "completion": _completion_flaws,
    "instruction": _instruction_flaws,
    "text_jsonl": _text_flaws,
}


def parse_row(row: dict[str, Any], format: str) -> Row:  # noqa: A002 - the word of the API and of the database
    """The messages or the text of a row.

    Raises:
        RowError: the row is not one of the format.
    """
    flaw = next(flaws(row, format), None)
    if flaw is not None:
        raise RowError(flaw)
    return _READERS[format](row)


def _read_chat(row: dict[str, Any]) -> Row:
    return [Message(role=message["role"], content=message["content"]) for message in row["messages"]]


def _read_completion(row: dict[str, Any]) -> Row:
    return _exchange(row["prompt"], row["completion"])


def _read_instruction(row: dict[str, Any]) -> Row:
    given = row.get("input")
    return _exchange(f"{row['instruction']}\n\n{given}" if given else row["instruction"], row["output"])


def _exchange(question: str, answer: str) -> Row:
    return [Message(role="user", content=question), Message(role="assistant", content=answer)]


def _read_text(row: dict[str, Any]) -> Row:
    return row["text"]


_READERS: dict[str, Callable[[dict[str, Any]], Row]] = {
    "chat": _read_chat,
    "completion": _read_completion,
    "instruction": _read_instruction,
    "text_jsonl": _read_text,
}
