"""Conversations as documents: the chat template renders them, loss falls on the assistant's tokens alone."""

import re
from itertools import groupby, islice
from typing import Any

import numpy as np
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from engine.data.corpus import Corpus, Document
from engine.data.cut import Cut
from engine.data.source import SourceRow
from engine.data.text import batches
from engine.data.tokenizer import CHAT_TEMPLATE, digest_of
from engine.errors import DataError, NoTrainedToken, SpecError
from engine.rows import Message

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
# What rendering a stranger's template raises: Jinja's own, and what expressions in it run into.
_TEMPLATE_FAILURES = (TemplateError, ValueError, TypeError, KeyError)


def ensure_chat_template(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Give a tokenizer that has no chat template ours; True when that was needed."""
    if tokenizer.chat_template is not None:
        return False
    if tokenizer.eos_token_id is None:
        raise SpecError(
            "no_eos_token",
            "the model's tokenizer has neither a chat template nor an end-of-text token, so an answer has no end",
            "Choose a model whose tokenizer has an eos_token.",
        )
    tokenizer.chat_template = CHAT_TEMPLATE
    return True


class ChatRecipe:
    """Conversations of at most `max_length` tokens; longer ones are cut at the end or dropped."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, max_length: int, long_rows: str) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.long_rows = long_rows
        self.key = f"weighted chat {digest_of(tokenizer)}"

    def encode(self, rows: list[SourceRow]) -> Corpus:
        """All tokens of each conversation, and which of them are trained.

        Raises:
            DataError: a row is a pair of answers, or the template does not render it.
        """
        pair = next((row for row in rows if isinstance(row.row, dict)), None)
        if pair is not None:
            raise DataError(
                "wrong_file_format",
                f"line {pair.line} is a pair of answers, not a conversation",
                "Tune on pairs with a job of kind dpo.",
            )
        documents: list[Document] = []
        for part in batches(rows):
            for row, (ids, mask) in zip(part, _masked(part, self.tokenizer), strict=True):
                answers = (turn for turn in _turns(row) if turn["role"] == "assistant" and turn.get("weight", 1))
                size_bytes = sum(len(turn["content"].encode()) for turn in answers)
                documents.append(Document(row.line, np.array(ids, np.int32), np.array(mask, np.bool_), size_bytes))
        return Corpus.of(documents)

    def cut(self, encoded: Corpus, follows: list[bool], ends: list[bool]) -> Cut:  # noqa: ARG002 - of running texts
        made = Cut(Corpus.of([]), [], [], [])
        documents: list[Document] = []
        for document in encoded.documents():
            kept = document
            if len(document.ids) > self.max_length:
                (made.truncated if self.long_rows == "truncate" else made.dropped).append(document.line)
                if self.long_rows == "drop":
                    continue
                kept = self._truncated(document)
            if kept.trained[1:].any():
                documents.append(kept)
            else:
                made.untrained.append(document.line)
        return made._replace(corpus=Corpus.of(documents))

    def require(self, made: Cut, rows: int) -> None:
        if not len(made.corpus):
            raise NoTrainedToken(
                f"none of the {rows} rows has a token to train on within max_length {self.max_length}",
                "Raise max_length, use long_rows 'truncate', or check that the rows have assistant answers.",
            )

    def _truncated(self, document: Document) -> Document:
        ids, trained = document.ids[: self.max_length], document.trained[: self.max_length]
        answer = str(self.tokenizer.decode(ids[trained].tolist(), skip_special_tokens=True))
        return Document(document.line, ids, trained, len(answer.encode()))


def prompt_tokens(messages: list[Message], line: int, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """A conversation up to where the assistant answers, as the chat template renders it."""
    talk: Any = messages
    try:
        text = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    except _TEMPLATE_FAILURES as error:
        raise _template_error([SourceRow(line, messages)], tokenizer, error) from error
    ids: Any = tokenizer(str(text), add_special_tokens=False)["input_ids"]
    return ids


def _messages(row: SourceRow) -> list[dict[str, Any]]:
    """The turns as templates take them."""
    return [{"role": turn["role"], "content": turn["content"]} for turn in _turns(row)]


def _turns(row: SourceRow) -> list[Message]:
    assert isinstance(row.row, list), "chat rows are lists of messages"
    return row.row


def _weights(row: SourceRow) -> list[int]:
    """Of each answer: 0 leaves it untrained."""
    return [turn.get("weight", 1) for turn in _turns(row) if turn["role"] == "assistant"]


def masked_from(
    rows: list[SourceRow], first: list[int], tokenizer: PreTrainedTokenizerFast
) -> list[tuple[list[int], list[bool]]]:
    """(tokens, trained) of each row, where answers count from message `first` on."""
    ends = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    eos: Any = tokenizer.eos_token_id
    return [_with_end(ids, mask, ends, eos) for ids, mask in _by_prefix(rows, tokenizer, first)]


def _masked(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast) -> list[tuple[list[int], list[bool]]]:
    """(tokens, trained) of each row, the token that ends an answer among the trained.

    A template's own mask cannot tell one answer from another, so rows with weights are masked by prefixes.
    """
    marks_answers = _GENERATION.search(tokenizer.get_chat_template()) is not None
    pairs: list[tuple[list[int], list[bool]]] = []
    for by_generation, part in groupby(rows, lambda row: marks_answers and 0 not in _weights(row)):
        pairs += (_by_generation if by_generation else _by_prefix)(list(part), tokenizer)
    ends = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    eos: Any = tokenizer.eos_token_id
    return [_with_end(ids, mask, ends, eos) for ids, mask in pairs]


def _by_generation(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast) -> list[tuple[list[int], list[bool]]]:
    """The template's own mask, from its `{% generation %}` blocks."""
    try:
        out: Any = tokenizer.apply_chat_template(
            [_messages(row) for row in rows], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
    except _TEMPLATE_FAILURES as error:
        raise _template_error(rows, tokenizer, error) from error
    masks = [[bool(t) for t in mask] for mask in out["assistant_masks"]]
    return list(zip(out["input_ids"], masks, strict=True))


def _by_prefix(
    rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, first: list[int] | None = None
) -> list[tuple[list[int], list[bool]]]:
    """The mask from rendering prefixes: an answer is what follows its generation prompt.

    Stock templates (Llama 3.1, Qwen 3, Gemma 3) have no generation block; transformers' own mask is then all
    zero (transformers issue 34172).
    """
    texts, spans = [], []
    for row, start in zip(rows, first or [0] * len(rows), strict=True):
        messages = _messages(row)
        try:
            full = str(tokenizer.apply_chat_template(messages, tokenize=False))
            before = sum(message["role"] == "assistant" for message in messages[:start])
            answers = zip(_answer_spans(messages, full, tokenizer), _weights(row), strict=True)
            spans.append([span for span, weight in islice(answers, before, None) if weight])
        except _TEMPLATE_FAILURES as error:
            raise _template_error([row], tokenizer, error) from error
        texts.append(full)
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    pairs = []
    for ids, offsets, row_spans in zip(encoded["input_ids"], encoded["offset_mapping"], spans, strict=True):
        mask = [
            any(begin < end and begin < stop and end > start for start, stop in row_spans) for begin, end in offsets
        ]
        pairs.append((ids, mask))
    return pairs


def _answer_spans(
    messages: list[dict[str, Any]], full: str, tokenizer: PreTrainedTokenizerFast
) -> list[tuple[int, int]]:
    """Characters of `full` that are answers, from the end of the generation prompt to the end of the content."""
    spans, done = [], 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = str(tokenizer.apply_chat_template(messages[:index], tokenize=False, add_generation_prompt=True))
        content = message["content"].strip()
        asked = len(prompt) if full.startswith(prompt) else done
        at = full.find(content, asked)
        if at < 0:
            raise ValueError("the template changes the text of an answer")
        done = at + len(content)
        spans.append((asked if full.startswith(prompt) else at, done))
    return spans


def _with_end(ids: list[int], mask: list[bool], ends: set[int], eos: int | None) -> tuple[list[int], list[bool]]:
    """Train the special token that closes an answer; a conversation whose last answer has none is closed with eos.

    What comes after the last trained token is left out: no label depends on it.
    """
    mask = list(mask)
    for at in range(1, len(ids)):
        if mask[at - 1] and not mask[at] and ids[at] in ends and ids[at - 1] not in ends:
            mask[at] = True
    if not any(mask):
        return ids, mask
    stop = len(mask) - mask[::-1].index(True)
    if ids[stop - 1] not in ends and eos is not None:
        return [*ids[:stop], eos], [*mask[:stop], True]
    return ids[:stop], mask[:stop]


def _template_error(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, error: Exception) -> DataError:
    """Name the first row that does not render."""
    for row in rows:
        try:
            tokenizer.apply_chat_template(_messages(row), tokenize=False)
        except _TEMPLATE_FAILURES as cause:
            error, rows = cause, [row]
            break
    return DataError(
        "chat_template_failed",
        f"the model's chat template does not render line {rows[0].line}: {error}",
        "Check the order of the roles (many templates want user and assistant in turns, and some no system turn).",
    )
