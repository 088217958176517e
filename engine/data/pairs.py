"""Preference pairs as documents: prompt and chosen answer, then prompt and rejected answer."""

from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerFast

from engine.data.answers import masked_from
from engine.data.corpus import Corpus, Document
from engine.data.cut import Cut
from engine.data.source import SourceRow
from engine.data.supply import Seen
from engine.data.text import batches
from engine.errors import DataError, NoTrainedToken
from engine.rows import Message, Preference

PAIR = 2
"""Documents of a pair: the chosen one, then the rejected one."""


@dataclass(frozen=True)
class PairCorpus(Corpus):
    """A corpus of pairs, with the record of what its rows lost."""

    origin: Seen | None = None
    """The length of a row in it is that of the longer side of its pair."""


def pair_corpus(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, *, max_length: int, long_rows: str) -> Cut:
    """Tokenize both sides of every pair; the assistant's turns after the prompt carry loss.

    A side over `max_length` tokens is truncated, or its pair dropped; a pair is left out when nothing of one answer is
    within `max_length`.

    Raises:
        DataError: a row is not a pair.
        NoTrainedToken: no pair is left.
    """
    documents: list[Document] = []
    lengths: list[int] = []
    truncated: list[int] = []
    dropped: list[int] = []
    untrained: list[int] = []
    for part in batches(rows):
        for row, pair in zip(part, _sides(part, tokenizer), strict=True):
            lengths.append(max(len(side.ids) for side in pair))
            if lengths[-1] > max_length:
                (truncated if long_rows == "truncate" else dropped).append(row.line)
                if long_rows == "drop":
                    continue
            cut = [side._replace(ids=side.ids[:max_length], trained=side.trained[:max_length]) for side in pair]
            if all(side.trained[1:].any() for side in cut):
                documents += cut
            else:
                untrained.append(row.line)
    if not documents:
        raise NoTrainedToken(
            f"none of the {len(rows)} pairs has both answers within max_length {max_length}",
            "Raise max_length, or use long_rows 'truncate'.",
        )
    corpus = PairCorpus.of(documents, together=PAIR).with_shared_prefixes()
    made = Cut(corpus, truncated, dropped, untrained)
    return made._replace(corpus=replace(corpus, origin=Seen(np.array(lengths, np.int64), made)))


def _sides(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast) -> list[tuple[Document, Document]]:
    talks: list[SourceRow] = []
    prompts: list[int] = []
    for row in rows:
        pair = _pair_of(row)
        for answer in (pair["chosen"], pair["rejected"]):
            talks.append(row._replace(row=[*pair["prompt"], *answer]))
            prompts.append(len(pair["prompt"]))
    made = [
        Document(row.line, np.array(ids, np.int32), np.array(mask, np.bool_), _answer_bytes(row, prompt))
        for row, prompt, (ids, mask) in zip(talks, prompts, masked_from(talks, prompts, tokenizer), strict=True)
    ]
    return list(zip(made[::2], made[1::2], strict=True))


def _pair_of(row: SourceRow) -> Preference:
    if not isinstance(row.row, dict):
        raise DataError(
            "wrong_file_format",
            f"line {row.line} is not a pair of a chosen and a rejected answer",
            'Write rows like {"prompt": "...", "chosen": "...", "rejected": "..."}.',
        )
    return row.row


def _answer_bytes(row: SourceRow, prompt: int) -> int:
    assert isinstance(row.row, list), "made of turns above"
    answers: list[Message] = row.row[prompt:]
    return sum(len(message["content"].encode()) for message in answers if message["role"] == "assistant")
