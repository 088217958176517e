"""Which tokens of a conversation are trained: the assistant's answers, and the token that closes each of them."""

import re
from collections.abc import Callable
from itertools import groupby, takewhile
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

from transformers import PreTrainedTokenizerFast

from engine.data.source import SourceRow
from engine.errors import DataError
from engine.rows import Message

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_STAND_IN = "an-answer-of-the-assistant"
_LONG = 32
"""Characters. An answer that is this long, and found after the prompt, is not text of the template by chance."""
_EXCHANGE = SourceRow(1, [Message(role="user", content="x"), Message(role="assistant", content="y")])

_ALONE = Lock()
"""Rendering is serial: a template is compiled once per process, with one tracker of answers for all threads."""

_Turns: TypeAlias = list[dict[str, Any]]
_Render: TypeAlias = Callable[..., str]


class Masked(NamedTuple):
    """The tokens of a conversation up to the last trained one, and which of them are trained."""

    ids: list[int]
    trained: list[bool]


def turns_of(row: SourceRow) -> list[Message]:
    """Return the messages of a chat row."""
    assert isinstance(row.row, list), "chat rows are lists of messages"
    return row.row


def masked(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast) -> list[Masked]:
    """Tokenize conversations and mark the tokens of every answer whose weight is not 0.

    The mask of the template's generation blocks does not tell one answer from another, so the answers of rows with
    weights are found in the rendered text instead. What a generation block leaves out of an answer is untrained.

    Raises:
        DataError: the template does not render a row, or there are several templates and no default.
    """
    marks_answers = _GENERATION.search(_template_of(tokenizer)) is not None
    made: list[Masked] = []
    for by_generation, part in groupby(rows, lambda row: marks_answers and len(_wanted(row)) == _answers(row)):
        made += (_by_generation if by_generation else _by_place)(list(part), tokenizer)
    return made


def masked_from(rows: list[SourceRow], first: list[int], tokenizer: PreTrainedTokenizerFast) -> list[Masked]:
    """Tokenize conversations and mark the answers from message `first[row]` of each row on."""
    return _by_place(rows, tokenizer, first)


def closing_token(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """Return the token that models are trained to close answers with; None without one, or without a template."""
    if tokenizer.chat_template is None:
        return None
    try:
        ((ids, _),) = masked([_EXCHANGE], tokenizer)
    except Exception:  # noqa: BLE001 - the template needs a longer conversation or is no good, as its use will report
        return None
    return ids[-1] if ids and ids[-1] in _marks(tokenizer) else None


def prompt_text(messages: list[Message], place: str, tokenizer: PreTrainedTokenizerFast) -> str:
    """Render a conversation up to where the assistant's answer begins.

    Raises:
        DataError: the template does not render it; `place` names the conversation in the message.
    """
    try:
        return _renderer(tokenizer)(messages, add_generation_prompt=True)
    except Exception as error:  # the expressions of an uploaded template may raise anything, such as RecursionError
        raise _not_rendered(place, error) from error


def prompt_tokens(messages: list[Message], place: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Render (`prompt_text`) and tokenize a conversation up to where the assistant's answer begins. Raises DataError."""
    ids: Any = tokenizer(prompt_text(messages, place, tokenizer), add_special_tokens=False)["input_ids"]
    return ids


def _wanted(row: SourceRow, first: int = 0) -> list[int]:
    """Return the indices of the messages that are trained."""
    return [
        place
        for place, turn in enumerate(turns_of(row))
        if place >= first and turn["role"] == "assistant" and turn.get("weight", 1)
    ]


def _answers(row: SourceRow) -> int:
    return sum(turn["role"] == "assistant" for turn in turns_of(row))


def _plain(row: SourceRow) -> _Turns:
    """Return the turns with the fields that templates know."""
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns_of(row)]


def _template_of(tokenizer: PreTrainedTokenizerFast) -> str:
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise DataError(
            "chat_template_failed",
            f"the model has several chat templates and no default: {', '.join(sorted(tokenizer.chat_template))}",
            "Name one of them default in the model's files.",
        ) from error


def _applied(tokenizer: PreTrainedTokenizerFast, turns: Any, **options: Any) -> Any:
    """Apply the chat template, one thread at a time."""
    with _ALONE:
        return tokenizer.apply_chat_template(turns, **options)


def _renderer(tokenizer: PreTrainedTokenizerFast) -> _Render:
    def render(turns: Any, **options: Any) -> str:
        return str(_applied(tokenizer, turns, tokenize=False, **options))

    return render


def _marks(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """Return the special and added tokens: the token that closes an answer is one of them."""
    added = tokenizer.added_tokens_decoder.items()
    return set(tokenizer.all_special_ids) | {token for token, entry in added if entry.content.strip(" \t\r\n▁")}


def _by_generation(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast) -> list[Masked]:
    """Mask by the template's `{% generation %}` blocks, most of which hold the closing token too."""
    marks = _marks(tokenizer)
    try:
        ((ids, mask),) = _generation_masks([_EXCHANGE], tokenizer, marks)
        closed = _last(mask) < 0 or ids[_last(mask)] in marks
    except Exception:  # noqa: BLE001 - the template needs a longer conversation
        closed = True
    try:
        pairs = _generation_masks(rows, tokenizer, marks if closed else set())
    except Exception as error:
        raise _first_refused(rows, tokenizer, error) from error
    return [_closed(ids, mask, set() if closed else marks, tokenizer) for ids, mask in pairs]


def _generation_masks(
    rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, marks: set[int]
) -> list[tuple[list[int], list[bool]]]:
    """Return (tokens, mask) of each row by the generation blocks, but without a line end after the closing token."""
    turns = [_plain(row) for row in rows]
    out = _applied(tokenizer, turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    pairs = list(zip(out["input_ids"], [list(map(bool, mask)) for mask in out["assistant_masks"]], strict=True))
    for ids, mask in pairs:
        for stop in [at + 1 for at in range(len(ids)) if mask[at] and not any(mask[at + 1 : at + 2])]:
            end = stop - 1
            while end and mask[end - 1] and _is_blank(ids[end], tokenizer):
                end -= 1
            if ids[end] in marks:
                mask[end + 1 : stop] = [False] * (stop - end - 1)
    return pairs


def _is_blank(token: int, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether a token is white space; decoded alone, SentencePiece's is the empty string."""
    return not str(tokenizer.decode([token])).strip()


def _by_place(
    rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, first: list[int] | None = None
) -> list[Masked]:
    """Mask by where the template writes each answer in the rendered text.

    Stock templates (Llama 3.1, Qwen 3, Gemma 3) have no generation block; transformers' own mask is then all
    zero (transformers issue 34172).
    """
    render, marks = _renderer(tokenizer), _marks(tokenizer)
    texts: list[str] = []
    spans: list[list[tuple[int, int]]] = []
    for row, start in zip(rows, first or [0] * len(rows), strict=True):
        turns = _plain(row)
        try:
            texts.append(render(turns))
            found = [_span(turns, place, texts[-1], render) for place in _wanted(row, start)]
        except Exception as error:
            raise _not_rendered(f"line {row.line}", error) from error
        spans.append([span for span in found if span is not None])
        if None in found:
            raise _not_found(row, _wanted(row, start)[found.index(None)])
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    made: list[Masked] = []
    for ids, offsets, written in zip(encoded["input_ids"], encoded["offset_mapping"], spans, strict=True):
        mask = [any(begin < end and begin < stop and end > start for start, stop in written) for begin, end in offsets]
        made.append(_closed(ids, mask, marks, tokenizer))
    return made


def _span(turns: _Turns, place: int, full: str, render: _Render) -> tuple[int, int] | None:
    """Return (start, stop) of the answer in `full`, the rendered text, from the end of the generation prompt on.

    Templates trim answers, drop the reasoning of earlier ones, or write an empty thought before them. So the answer is
    what changes when another text takes its place; None when that cannot be decided, or when the template drops a
    part of the last answer.
    """
    content, prompt_end = turns[place]["content"], _prompt_end(turns[:place], full, render)
    # A short answer may look like the beginning of a thought or of the next turn.
    if prompt_end is not None and len(content) >= _LONG and full.startswith(content, prompt_end):
        return prompt_end, prompt_end + len(content)
    other = render([*turns[:place], turns[place] | {"content": _STAND_IN}, *turns[place + 1 :]])
    before, found, after = other.partition(_STAND_IN)
    start = _shared(before, full) if prompt_end is None else prompt_end
    stop = len(full) - _shared(after[::-1], full[::-1])
    whole = place < len(turns) - 1 or _squeezed(full[:stop]).endswith(_squeezed(content))
    return (start, stop) if found and _STAND_IN not in after and start < stop and whole else None


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _prompt_end(before: _Turns, full: str, render: _Render) -> int | None:
    """Return where in `full` the generation prompt ends; None where `full` does not begin with it."""
    try:
        prompt = render(before, add_generation_prompt=True) if before else ""
    except Exception:  # noqa: BLE001 - a conversation that the template refuses has no prompt
        return None
    return len(prompt) if prompt and full.startswith(prompt) else None


def _shared(start: str, text: str) -> int:
    """Return how many characters `start` and the text have in common at their beginning."""
    if text.startswith(start):
        return len(start)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(start, text, strict=False)))


def _last(mask: list[bool]) -> int:
    """Return the last index at which the mask is true, or -1."""
    return len(mask) - 1 - mask[::-1].index(True) if any(mask) else -1


def _closed(ids: list[int], mask: list[bool], marks: set[int], tokenizer: PreTrainedTokenizerFast) -> Masked:
    """Train the token of `marks` that closes each answer; append eos to a conversation whose last answer has none.

    Tokens after the last trained one are left out: no label depends on them. `marks` is empty where the mask has the
    closing tokens already.
    """
    trained, closing, eos = list(mask), set[int](), tokenizer.eos_token_id
    for after in range(1, len(ids)):
        if not marks or not mask[after - 1] or mask[after]:
            continue
        end = after
        while ids[end] not in marks and end + 1 < len(ids) and _is_blank(ids[end], tokenizer):
            end += 1
        # After white space, a mark other than eos may be how the next turn begins.
        if ids[end] in marks and (end == after or ids[end] == eos):
            trained[after : end + 1] = [True] * (end + 1 - after)
            closing.add(end)
    last = _last(trained)
    if last < 0:
        return Masked(ids, trained)
    ids, trained = ids[: last + 1], trained[: last + 1]
    ended = last in closing or ids[last] == eos or (not marks and ids[last] in _marks(tokenizer))
    return Masked(ids, trained) if ended or not isinstance(eos, int) else Masked([*ids, eos], [*trained, True])


def _first_refused(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, error: Exception) -> DataError:
    """Return an error that names the first row that does not render."""
    for row in rows:
        try:
            _renderer(tokenizer)(_plain(row))
        except Exception as cause:  # noqa: BLE001 - as above
            return _not_rendered(f"line {row.line}", cause)
    return _not_rendered(f"line {rows[0].line}", error)


def _not_rendered(place: str, error: Exception) -> DataError:
    return DataError(
        "chat_template_failed",
        f"the model's chat template does not render {place}: {error}",
        "Check the order of the roles (many templates want user and assistant in turns, and some no system turn).",
    )


def _not_found(row: SourceRow, place: int) -> DataError:
    return DataError(
        "answer_not_found",
        f"line {row.line}: the model's chat template does not write message {place + 1}, an answer, whole, once and in "
        "its place (some templates leave out reasoning)",
        "Name the line in exclude_rows, remove from the row what the template leaves out, or tune a model whose "
        "template writes all of it; of several answers in a chat row one may also have weight 0.",
    )
