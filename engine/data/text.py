"""Texts as documents for next-token prediction: every token is scored once, nothing is dropped."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from engine.data.corpus import Corpus, Document
from engine.data.source import SourceRow
from engine.errors import NoTrainedToken

_AT_ONCE = 512


def text_corpus(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast, max_length: int) -> Corpus:
    """Documents of at most `max_length` input tokens.

    A document is begin token, text, end token. Longer ones, and running texts, are cut into windows that do
    not overlap: the last token of one is the first input of the next, so each is a label exactly once, with
    what its own window holds before it.

    Raises:
        NoTrainedToken: the texts are empty.
    """
    documents: list[Document] = []
    for run in _running(rows, tokenizer):
        ids = np.concatenate(run.parts)
        last = len(ids) - 1
        for start in range(0, last, max_length):
            stop = min(start + max_length, last)
            window = ids[start : stop + 1]
            size_bytes = run.size_bytes * stop // last - run.size_bytes * start // last
            documents.append(Document(run.line_at(start), window, np.ones(len(window), np.bool_), size_bytes))
    if not documents:
        raise NoTrainedToken(
            f"none of the {len(rows)} texts has a token that follows another",
            "Give longer texts, or choose a model whose tokenizer has an eos_token.",
        )
    return Corpus.of(documents)


@dataclass
class _Run:
    """A document as it grows; `marks` tell which line the text came from at a token."""

    parts: list[NDArray[np.int32]]
    tokens: int
    size_bytes: int
    marks: list[tuple[int, int]]

    def add(self, ids: list[int], line: int, size_bytes: int) -> None:
        self.marks.append((self.tokens, line))
        self.parts.append(np.array(ids, np.int32))
        self.tokens += len(ids)
        self.size_bytes += size_bytes

    def line_at(self, token: int) -> int:
        return self.marks[bisect_right(self.marks, (token, 1 << 62)) - 1][1]


def _running(rows: list[SourceRow], tokenizer: PreTrainedTokenizerFast) -> list[_Run]:
    """Begin token, text and end token of each document; blocks that follow each other are one."""
    end: Any = tokenizer.eos_token_id
    begin: Any = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    runs: list[_Run] = []
    for part in batches(rows):
        encoded: Any = tokenizer([str(row.row) for row in part], add_special_tokens=False)["input_ids"]
        for row, ids in zip(part, encoded, strict=True):
            if not row.follows:
                runs.append(_Run([], 0, 0, []))
                runs[-1].add([] if begin is None else [begin], row.line, 0)
            closed: list[int] = ids if end is None or not row.ends else [*ids, end]
            runs[-1].add(closed, row.line, len(str(row.row).encode()))
    return [run for run in runs if run.tokens > 1]


def batches(rows: list[SourceRow]) -> list[list[SourceRow]]:
    return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
