"""Texts as documents for next-token prediction: every token is a label once, and no text is dropped."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from engine.data.corpus import Corpus, Document
from engine.data.cut import Cut
from engine.data.source import SourceRow
from engine.data.tokenizer import digest_of
from engine.errors import NoTrainedToken

_AT_ONCE = 512


class TextRecipe:
    """Documents of at most `max_length` input tokens.

    A document is begin token, text, end token. Longer documents and running texts are cut into windows that do
    not overlap: the last token of one is the first input of the next, so each token is a label exactly once, predicted
    from what is before it in its own window.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.key = f"text {digest_of(tokenizer)}"

    def encode(self, rows: list[SourceRow]) -> Corpus:
        """Tokenize each row's text, without special tokens."""
        documents: list[Document] = []
        for part in batches(rows):
            encoded: Any = self.tokenizer([str(row.row) for row in part], add_special_tokens=False)["input_ids"]
            for row, ids in zip(part, encoded, strict=True):
                size_bytes = len(str(row.row).encode())
                documents.append(Document(row.line, np.array(ids, np.int32), np.ones(len(ids), np.bool_), size_bytes))
        return Corpus.of(documents)

    def cut(self, encoded: Corpus, follows: list[bool], ends: list[bool]) -> Cut:
        documents: list[Document] = []
        for run in self._runs(encoded, follows, ends):
            ids = np.concatenate(run.parts)
            last = len(ids) - 1
            for start in range(0, last, self.max_length):
                stop = min(start + self.max_length, last)
                window = ids[start : stop + 1]
                size_bytes = run.size_bytes * stop // last - run.size_bytes * start // last
                documents.append(Document(run.line_at(start), window, np.ones(len(window), np.bool_), size_bytes))
        return Cut(Corpus.of(documents), [], [], [])

    def require(self, made: Cut, rows: int) -> None:
        if not len(made.corpus):
            raise NoTrainedToken(
                f"none of the {rows} texts has a token that follows another",
                "Use longer texts, or a model whose tokenizer has an eos_token.",
            )

    def _runs(self, encoded: Corpus, follows: list[bool], ends: list[bool]) -> "list[_Run]":
        """Join begin token, text and end token of each document; rows that follow each other are one document."""
        end: Any = self.tokenizer.eos_token_id
        begin: Any = end if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id
        runs: list[_Run] = []
        for at, (start, stop) in enumerate(zip(encoded.starts[:-1], encoded.starts[1:], strict=True)):
            line = int(encoded.lines[at])
            if not follows[at]:
                runs.append(_Run([], 0, 0, []))
                runs[-1].add([] if begin is None else [begin], line, 0)
            runs[-1].add(encoded.ids[start:stop], line, int(encoded.sizes_bytes[at]))
            if ends[at] and end is not None:
                runs[-1].add([end], line, 0)
        return [run for run in runs if run.tokens > 1]


@dataclass
class _Run:
    """A document under construction; `marks` are (token, line) where the text of a new row begins."""

    parts: list[NDArray[np.int32]]
    tokens: int
    size_bytes: int
    marks: list[tuple[int, int]]

    def add(self, ids: NDArray[np.int32] | list[int], line: int, size_bytes: int) -> None:
        self.marks.append((self.tokens, line))
        self.parts.append(np.asarray(ids, np.int32))
        self.tokens += len(ids)
        self.size_bytes += size_bytes

    def line_at(self, token: int) -> int:
        return self.marks[bisect_right(self.marks, (token, 1 << 62)) - 1][1]


def batches(rows: list[SourceRow]) -> list[list[SourceRow]]:
    return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
