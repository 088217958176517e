"""Which tokens of a conversation are trained: the assistant's answers, and the token that closes each of them."""

import re
from collections.abc import Callable
from itertools import groupby, takewhile
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from engine.data.source import SourceRow
from engine.errors import DataError
from engine.rows import Message

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
# What rendering a stranger's template raises: Jinja's own, and what expressions in it run into.
_TEMPLATE_FAILURES = (TemplateError, ValueError, TypeError, KeyError)
_STAND_IN = "what-the-assistant-says"
_LONG = 32
"""Characters: no template begins an answer with so many of its own that some row's answer begins with too."""
_EXCHANGE = SourceRow(1, [Message(role="user", content="x"), Message(role="assistant", content="y")])

_ALONE = Lock()
"""transformers compiles a template once for the whole process, with one tracker of answers that every rendering writes to."""

_Turns: TypeAlias = list[dict[str, Any]]
_Render: TypeAlias = Callable[..., str]


class Masked(NamedTuple):
    """Tokens of a conversation up to the last that is trained, and which of them are."""

    ids: list[int]
    trained: list[bool]


def turns_of(row: SourceRow) -> list[Message]:
    """The messages of a chat row."""
    assert isinstance(row.row, list), "chat rows are lists of messages"
    return row.row


def masked(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast) -> list[Masked]:
    """Every answer whose weight is not 0 is trained.

    A template's own mask cannot tell one answer from another, so rows with weights are masked by what stands where. What
    its blocks leave out of an answer is the template's own word, and nothing is said of it.

    Raises:
        DataError: the template does not render a row, or there are several and none goes first.
    """
    marks_answers = _GENERATION.search(_template_of(tokenizer)) is not None
    made: list[Masked] = []
    for by_generation, part in groupby(rows, lambda row: marks_answers and len(_wanted(row)) == _answers(row)):
        made += (_by_generation if by_generation else _by_place)(list(part), tokenizer)
    return made


def masked_from(rows: list[SourceRow], first: list[int], tokenizer: PreTrainedTokenizerFast) -> list[Masked]:
    """The same, where answers count from message `first` of each row on."""
    return _by_place(rows, tokenizer, first)


def closing_token(tokenizer: PreTrainedTokenizerFast) -> int | None:
    """The token that training teaches a model to close an answer with; None where it has no template or none such."""
    if tokenizer.chat_template is None:
        return None
    try:
        ((ids, _),) = masked([_EXCHANGE], tokenizer)
    except ValueError:  # it wants more of a conversation than that, or there are several and none goes first
        return None
    return ids[-1] if ids[-1] in _marks(tokenizer) else None


def prompt_tokens(messages: list[Message], place: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """A conversation up to where the assistant answers, as the chat template renders it.

    Raises:
        DataError: it does not; `place` says of what.
    """
    try:
        text = _renderer(tokenizer)(messages, add_generation_prompt=True)
    except _TEMPLATE_FAILURES as error:
        raise _not_rendered(place, error) from error
    ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _wanted(row: SourceRow, first: int = 0) -> list[int]:
    """The places of the answers that are trained."""
    return [
        place
        for place, turn in enumerate(turns_of(row))
        if place >= first and turn["role"] == "assistant" and turn.get("weight", 1)
    ]


def _answers(row: SourceRow) -> int:
    return sum(turn["role"] == "assistant" for turn in turns_of(row))


def _plain(row: SourceRow) -> _Turns:
    """The turns as templates take them."""
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns_of(row)]


def _template_of(tokenizer: PreTrainedTokenizerFast) -> str:
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        raise DataError(
            "chat_template_failed",
            f"the model has several chat templates and none to begin with: {', '.join(sorted(tokenizer.chat_template))}",
            "Name one of them default in the model's files.",
        ) from error


def _applied(tokenizer: PreTrainedTokenizerFast, turns: Any, **asked: Any) -> Any:
    """What the template makes of them, one thread after the other."""
    with _ALONE:
        return tokenizer.apply_chat_template(turns, **asked)


def _renderer(tokenizer: PreTrainedTokenizerFast) -> _Render:
    def render(turns: Any, **asked: Any) -> str:
        return str(_applied(tokenizer, turns, tokenize=False, **asked))

    return render


def _marks(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """Tokens that no text is made of: one of them closes an answer."""
    added = tokenizer.added_tokens_decoder.items()
    return set(tokenizer.all_special_ids) | {token for token, told in added if told.content.strip(" \t\r\n▁")}


def _by_generation(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast) -> list[Masked]:
    """By the template's own mask, from its `{% generation %}` blocks; most hold the closing token too."""
    marks = _marks(tokenizer)
    try:
        ((ids, told),) = _told([_EXCHANGE], tokenizer, marks)
        closed = _last(told) < 0 or ids[_last(told)] in marks
    except _TEMPLATE_FAILURES:  # it wants more of a conversation than that
        closed = True
    try:
        pairs = _told(rows, tokenizer, marks if closed else set())
    except _TEMPLATE_FAILURES as error:
        raise _first_refused(rows, tokenizer, error) from error
    return [_closed(ids, told, set() if closed else marks, tokenizer) for ids, told in pairs]


def _told(
    rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, marks: set[int]
) -> list[tuple[list[int], list[bool]]]:
    """(tokens, what the blocks hold of them), without the line's end that some hold behind the closing token."""
    turns = [_plain(row) for row in rows]
    out = _applied(tokenizer, turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    pairs = list(zip(out["input_ids"], [list(map(bool, mask)) for mask in out["assistant_masks"]], strict=True))
    for ids, told in pairs:
        for stop in [at + 1 for at in range(len(ids)) if told[at] and not any(told[at + 1 : at + 2])]:
            end = stop - 1
            while end and told[end - 1] and _is_blank(ids[end], tokenizer):
                end -= 1
            if ids[end] in marks:
                told[end + 1 : stop] = [False] * (stop - end - 1)
    return pairs


def _is_blank(token: int, tokenizer: PreTrainedTokenizerFast) -> bool:
    """White space; as SentencePiece has it, it reads as nothing by itself."""
    return not str(tokenizer.decode([token])).strip()


def _by_place(
    rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, first: list[int] | None = None
) -> list[Masked]:
    """By where the template writes each answer.

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
        except _TEMPLATE_FAILURES as error:
            raise _not_rendered(f"line {row.line}", error) from error
        spans.append([span for span in found if span is not None])
        if None in found:
            raise _not_found(row, _wanted(row, start)[found.index(None)])
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    made: list[Masked] = []
    for ids, offsets, written in zip(encoded["input_ids"], encoded["offset_mapping"], spans, strict=True):
        told = [any(begin < end and begin < stop and end > start for start, stop in written) for begin, end in offsets]
        made.append(_closed(ids, told, marks, tokenizer))
    return made


def _span(turns: _Turns, place: int, full: str, render: _Render) -> tuple[int, int] | None:
    """Characters of `full` that the assistant writes in that turn, from the end of the generation prompt on.

    Templates trim answers, leave out what was thought in earlier ones, or write an empty thought before them. The answer
    is then what differs where another text stands in its place; None where that cannot be told, and where of the last
    answer something is left out.
    """
    content, asked = turns[place]["content"], _asked(turns[:place], full, render)
    # What is short may be how a thought or a turn begins.
    if asked is not None and len(content) >= _LONG and full.startswith(content, asked):
        return asked, asked + len(content)
    other = render([*turns[:place], turns[place] | {"content": _STAND_IN}, *turns[place + 1 :]])
    before, found, after = other.partition(_STAND_IN)
    start = _shared(before, full) if asked is None else asked
    stop = len(full) - _shared(after[::-1], full[::-1])
    whole = place < len(turns) - 1 or _squeezed(full[:stop]).endswith(_squeezed(content))
    return (start, stop) if found and _STAND_IN not in after and start < stop and whole else None


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _asked(before: _Turns, full: str, render: _Render) -> int | None:
    """Where the generation prompt ends; None where the conversation is not rendered as what a prompt goes on with."""
    try:
        prompt = render(before, add_generation_prompt=True) if before else ""
    except _TEMPLATE_FAILURES:
        return None
    return len(prompt) if prompt and full.startswith(prompt) else None


def _shared(start: str, text: str) -> int:
    """How many characters of `start` the text begins with."""
    if text.startswith(start):
        return len(start)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(start, text, strict=False)))


def _last(told: list[bool]) -> int:
    """The last place that is told; -1 when none is."""
    return len(told) - 1 - told[::-1].index(True) if any(told) else -1


def _closed(ids: list[int], told: list[bool], marks: set[int], tokenizer: PreTrainedTokenizerFast) -> Masked:
    """Train the one of `marks` that closes an answer; a conversation whose last answer has none is closed with eos.

    What comes after the last trained token is left out: no label depends on it. No marks: the answers hold their end.
    """
    trained, closing, eos = list(told), set[int](), tokenizer.eos_token_id
    for after in range(1, len(ids)):
        if not marks or not told[after - 1] or told[after]:
            continue
        end = after
        while ids[end] not in marks and end + 1 < len(ids) and _is_blank(ids[end], tokenizer):
            end += 1
        # Behind white space another mark may be how the next turn begins.
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
    """Names the first row that does not render."""
    for row in rows:
        try:
            _renderer(tokenizer)(_plain(row))
        except _TEMPLATE_FAILURES as cause:
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
        "its place (some leave out what was thought)",
        "Name the line in exclude_rows, take out of the row what is left out of it, or tune a model whose template writes "
        "all of it; of several answers in a chat row one may also have weight 0.",
    )
