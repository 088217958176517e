"""Preference rows: a prompt with a chosen and a rejected answer, in the shapes that data sets use."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

from engine.rows.flaw import Flaw, Message, RowError, excerpt, is_sound, message_flaws, tool_flaws, wrong_type

_TURN = re.compile(r"\n\n(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SIDES = ("chosen", "rejected")
_OPENAI_NAMES = {"prompt": "input.messages", "chosen": "preferred_output", "rejected": "non_preferred_output"}
_OUR_NAME = re.compile(r"\b(prompt|chosen|rejected)\b")


class Preference(TypedDict):
    """A prompt and two continuations, both of which begin and end with a turn of the assistant."""

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]


class _Talks(NamedTuple):
    """A row whose types are checked; `prompt` is None where both sides are whole conversations."""

    prompt: list[Any] | None
    chosen: list[Any]
    rejected: list[Any]


def preference_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    """Yield the flaws of a row that has the keys chosen and rejected."""
    try:
        talks = _talks(row)
    except RowError as error:
        yield error.flaw
        return
    yield from tool_flaws(row)
    unsound = False
    for key, messages in (("prompt", talks.prompt or []), *zip(_SIDES, talks[1:], strict=True)):
        for index, message in enumerate(messages):
            if not is_sound(message):
                unsound = True
                path = f"{key}[{index}]" if isinstance(row[key], list) else key
                yield from _renamed(message_flaws(message, f"{key}[{index}]"), f"{key}[{index}]", path)
    if unsound:
        return
    pair = _paired(talks)
    if isinstance(pair, Flaw):
        yield pair
    else:
        yield from _pair_flaws(pair)


def _renamed(flaws: Iterator[Flaw], long: str, path: str) -> Iterator[Flaw]:
    """Move the flaws of a turn that was a plain string to the key of the string."""
    for flaw in flaws:
        if long == path:
            yield flaw
        else:
            yield flaw._replace(path=path, message=flaw.message.replace(long + ".content", path))


def read_preference(row: dict[str, Any]) -> Preference:
    """Read the prompt and both answers of a row without flaws."""
    pair = _paired(_talks(row))
    assert not isinstance(pair, Flaw), "the row was checked"
    return pair


def preferred_output_flaws(row: dict[str, Any]) -> Iterator[Flaw]:
    """Yield the flaws of a row in the shape of OpenAI's preference tuning."""
    given = row["input"]
    if not isinstance(given, dict) or not isinstance(given.get("messages"), list):
        yield wrong_type("input", "an object with messages, a list", given)
        return
    yield from tool_flaws(row)
    yield from tool_flaws(given, "input.")
    for flaw in preference_flaws(_ours(row)):
        path, message = (_OUR_NAME.sub(lambda name: _OPENAI_NAMES[name[1]], text) for text in (flaw.path, flaw.message))
        yield flaw._replace(path=path, message=message)


def read_preferred_output(row: dict[str, Any]) -> Preference:
    """Read a row without flaws in OpenAI's shape."""
    return read_preference(_ours(row))


def _ours(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt": row["input"]["messages"],
        "chosen": row["preferred_output"],
        "rejected": row["non_preferred_output"],
    }


def _talks(row: dict[str, Any]) -> _Talks:
    """Turn the strings of a row into messages; the prompt and both answers may be either.

    Raises:
        RowError: a part is neither, or there is no prompt and no conversation to find one in.
    """
    prompt = row.get("prompt")
    if prompt is not None and not isinstance(prompt, str | list):
        raise RowError(wrong_type("prompt", "a string or a list of messages", prompt))
    sides: list[list[Any]] = []
    for key in _SIDES:
        value = row[key]
        if isinstance(value, list) and value:
            sides.append(value)
        elif isinstance(value, str) and prompt is not None:
            sides.append([Message(role="assistant", content=value)])
        elif isinstance(value, str) and _TURN.match(value):
            sides.append(_transcript(value))
        elif isinstance(value, str):
            hint = "add a prompt, or write chosen and rejected as lists of messages that begin alike"
            raise RowError(Flaw("missing_field", "prompt", "the key 'prompt' is missing", None, hint))
        else:
            raise RowError(wrong_type(key, "a string or a list of messages", value))
    given = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    return _Talks(given, *sides)


def _transcript(text: str) -> list[Message]:
    """Split a text into turns that begin with `Human:` and `Assistant:`, as in Anthropic's hh-rlhf."""
    _, *parts = _TURN.split(text)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [Message(role=_SPEAKERS[speaker], content=content.strip()) for speaker, content in pairs]


def _paired(talks: _Talks) -> Preference | Flaw:
    """Separate the prompt from the answers; without a prompt, it is the turns that both sides begin with."""
    sides = [[Message(role=m["role"], content=m["content"]) for m in side] for side in talks[1:]]
    chosen, rejected = sides
    if talks.prompt is not None:
        prompt = [Message(role=m["role"], content=m["content"]) for m in talks.prompt]
        # Some data sets repeat the prompt in both answers.
        repeated = [side[: len(prompt)] == prompt and len(side) > len(prompt) for side in sides]
        if prompt and all(repeated):
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        return Preference(prompt=prompt, chosen=chosen, rejected=rejected)
    shared = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        shared += 1
    while shared and not chosen[shared]["role"] == rejected[shared]["role"] == "assistant":
        shared -= 1
    if not shared:
        message = "chosen and rejected have no first turns in common, so there is no prompt"
        return Flaw("no_shared_prompt", "chosen", message, None, "begin both with the same turns, or add a prompt")
    return Preference(prompt=chosen[:shared], chosen=chosen[shared:], rejected=rejected[shared:])


def _pair_flaws(pair: Preference) -> Iterator[Flaw]:
    if not pair["prompt"]:
        yield Flaw("empty_prompt", "prompt", "prompt is empty", None, "a prompt has at least one turn")
    sound = True
    for key, side in (("chosen", pair["chosen"]), ("rejected", pair["rejected"])):
        for index, word in ((0, "first"), (-1, "last")):
            role = side[index]["role"]
            if role != "assistant":
                sound = False
                message = f"the {word} turn of {key} is not the assistant's"
                hint = "an answer begins and ends with a turn of the assistant"
                yield Flaw(f"{word}_not_assistant", key, message, excerpt(role), hint)
                break
    if sound and pair["chosen"] == pair["rejected"]:
        yield Flaw("same_answers", "rejected", "chosen and rejected are the same, so nothing is preferred")
