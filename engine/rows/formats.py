"""The row formats: their keys, the checks of a row, and its reading as messages or text."""

from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, TypeAlias

from engine.rows.choice import MultipleChoice, choice_flaws, read_choice
from engine.rows.flaw import (
    Flaw,
    Message,
    RowError,
    excerpt,
    is_sound,
    message_flaws,
    mistyped_key,
    nearest,
    tool_flaws,
    wrong_type,
)
from engine.rows.preference import (
    Preference,
    preference_flaws,
    preferred_output_flaws,
    read_preference,
    read_preferred_output,
)

FORMATS = (
    "preference",
    "preferred_output",
    "multiple_choice",
    "chat",
    "completion",
    "instruction",
    "text_jsonl",
    "text",
    "item",
)

# The formats that a purpose takes; of several that fit a row, the first one counts.
PURPOSES: dict[str, tuple[str, ...]] = {
    "fine-tune": ("preference", "preferred_output", "chat", "completion", "instruction"),
    "pretrain": ("text_jsonl", "text"),
    "evals": ("multiple_choice", "chat", "completion", "instruction", "text_jsonl", "text", "item"),
}

# The keys that a row of the format must have.
KEYS: dict[str, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "preferred_output": ("input", "preferred_output", "non_preferred_output"),
    "multiple_choice": ("question", "choices", "answer"),
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "instruction": ("instruction", "output"),
    "text_jsonl": ("text",),
    "item": ("item",),
}

EXAMPLES: dict[str, str] = {
    "preference": '{"prompt": "...", "chosen": "...", "rejected": "..."}',
    "preferred_output": '{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}',
    "multiple_choice": '{"question": "...", "choices": ["...", "..."], "answer": 0}',
    "chat": '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
    "completion": '{"prompt": "...", "completion": "..."}',
    "instruction": '{"instruction": "...", "input": "...", "output": "..."}',
    "text_jsonl": '{"text": "..."}',
    "item": '{"item": {...}, "sample": {"output_text": "..."}}',
}

Row: TypeAlias = list[Message] | str | Preference | MultipleChoice
"""Messages for chat, completion and instruction; the text for text_jsonl; both answers for preference."""


def format_of_row(row: Collection[str], formats: tuple[str, ...]) -> str | None:
    """Return the first of `formats` whose keys the row has."""
    for name in formats:
        if name in KEYS and all(key in row for key in KEYS[name]):
            return name
    return None


_MOST_KEYS = 32
"""Keys of a row of no format that are looked at."""


def misfit(row: dict[str, Any], formats: tuple[str, ...]) -> Flaw:
    """Return the flaw of a row that is of none of `formats`."""
    known = (key for name in FORMATS for key in KEYS.get(name, ()) if key in row)
    return _misfit(tuple(dict.fromkeys([*islice(row, _MOST_KEYS), *known])), formats)


@lru_cache(maxsize=256)
def _misfit(row: tuple[str, ...], formats: tuple[str, ...]) -> Flaw:
    """Return the flaw by the keys alone, and cached: a file may have many such rows."""
    for name in formats:
        missing = [key for key in KEYS.get(name, ()) if key not in row]
        if len(missing) == 1 and len(missing) < len(KEYS[name]):
            return _missing(missing[0], row, name)
    known = tuple(key for name in formats for key in KEYS.get(name, ()))
    keys = ", ".join(repr(excerpt(key)) for key in row[:8]) or "none"
    hint = next(filter(None, (nearest(key, known) for key in row)), None)
    elsewhere = format_of_row(row, FORMATS)
    if hint is None and elsewhere is not None:
        purposes = " or ".join(repr(purpose) for purpose, takes in PURPOSES.items() if elsewhere in takes)
        hint = f"rows like this one are uploaded with purpose {purposes}"
    if hint is None:
        hint = "write rows like " + " or ".join(EXAMPLES[name] for name in formats if name in EXAMPLES)
    return Flaw("unknown_format", "", f"the keys of this row ({keys}) are those of no row format", keys, hint)


def _missing(key: str, row: Collection[str], name: str) -> Flaw:
    hint = (
        mistyped_key(key, (other for other in row if other not in KEYS[name])) or f"a row like this is {EXAMPLES[name]}"
    )
    return Flaw("missing_field", key, f"the key {key!r} is missing", None, hint)


def flaws(row: dict[str, Any], name: str) -> Iterator[Flaw]:
    """Yield the flaws of a row of the format."""
    for key in KEYS[name]:
        if key not in row:
            yield _missing(key, row, name)
            return
    yield from _FLAWS[name](row)


def _chat_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    messages = row["messages"]
    if not isinstance(messages, list):
        yield wrong_type("messages", "a list of messages", messages)
        return
    yield from tool_flaws(row)
    unsound = False
    for index, message in enumerate(messages):
        if not is_sound(message):
            unsound = True
            yield from message_flaws(message, f"messages[{index}]")
    if unsound:
        return  # the roles are not known
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        text = "messages has no assistant turn, so there is nothing to learn from" if messages else "messages is empty"
        yield Flaw("no_assistant_turn", "messages", text, None, 'add {"role": "assistant", "content": "..."}')
    elif roles[-1] != "assistant":
        path = f"messages[{len(messages) - 1}]"
        hint = "end the row with the answer, or leave the last turn out"
        yield Flaw("last_not_assistant", path, "the last turn is not the assistant's", excerpt(roles[-1]), hint)
    elif all(message.get("weight") == 0 for message in messages if message["role"] == "assistant"):
        text = "every assistant turn has weight 0, so there is nothing to learn from"
        yield Flaw("no_assistant_turn", "messages", text, None, "give one of them weight 1")


def _completion_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    yield from tool_flaws(row)
    yield from _strings(row, ("prompt", "completion"), answer="completion")


def _instruction_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    if row.get("input") is not None and not isinstance(row["input"], str):
        yield wrong_type("input", "a string, null or left out", row["input"])
    yield from tool_flaws(row)
    yield from _strings(row, ("instruction", "output"), answer="output")


def _text_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    yield from _strings(row, ("text",), answer="text")


def _item_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    if not isinstance(row["item"], dict):
        yield wrong_type("item", "an object", row["item"])
    if not isinstance(row.get("sample") or {}, dict):
        yield wrong_type("sample", "an object, null or left out", row["sample"])


def _strings(row: dict[str, Any], keys: tuple[str, ...], answer: str) -> Iterator[Flaw]:
    for key in keys:
        if not isinstance(row[key], str):
            yield wrong_type(key, "a string", row[key])
        elif key == answer and not row[key].strip():
            yield Flaw("empty_answer", key, f"{key} is empty: there is nothing to learn from")


_FLAWS: dict[str, Callable[[dict[str, Any]], Iterator[Flaw]]] = {
    "preference": preference_flaws,
    "preferred_output": preferred_output_flaws,
    "multiple_choice": choice_flaws,
    "chat": _chat_flaws,
    "completion": _completion_flaws,
    "instruction": _instruction_flaws,
    "text_jsonl": _text_flaws,
    "item": _item_flaws,
}


def parse_row(row: dict[str, Any], format: str) -> Row:  # noqa: A002 - the word of the API and of the database
    """Return the messages or the text of a row.

    Raises:
        RowError: the row is not of the format.
    """
    flaw = next(flaws(row, format), None)
    if flaw is not None:
        raise RowError(flaw)
    return _READERS[format](row)


def _read_chat(row: dict[str, Any]) -> Row:
    return [_turn(message) for message in row["messages"]]


def _turn(message: dict[str, Any]) -> Message:
    turn = Message(role=message["role"], content=message["content"])
    if message["role"] == "assistant" and message.get("weight") == 0:
        turn["weight"] = 0
    return turn


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
    "preference": read_preference,
    "preferred_output": read_preferred_output,
    "multiple_choice": read_choice,
    "chat": _read_chat,
    "completion": _read_completion,
    "instruction": _read_instruction,
    "text_jsonl": _read_text,
}
"""All but `item`: only graders read those rows, no job does."""
