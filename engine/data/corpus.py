"""Tokenized documents in flat arrays, and the flat rows that are cut from them."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


class Document(NamedTuple):
    """One document's tokens; `trained` marks those that carry loss, `size_bytes` is the text behind them."""

    line: int
    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    size_bytes: int


@dataclass(frozen=True)
class Corpus:
    """Documents one after the other. `lines` are the lines of the data file that they came from."""

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    starts: Ints
    lines: Ints
    sizes_bytes: Ints
    together: int = 1
    """Documents that no batch parts: 2 where each row is a pair."""
    reference: NDArray[np.float32] | None = None
    """What the starting weights score on each document, for losses that compare with them."""

    @classmethod
    def of(cls, documents: list[Document], *, together: int = 1) -> "Corpus":
        lengths = [len(d.ids) for d in documents]
        return cls(
            ids=np.concatenate([d.ids for d in documents]),
            trained=np.concatenate([d.trained for d in documents]),
            starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            lines=np.array([d.line for d in documents], np.int64),
            sizes_bytes=np.array([d.size_bytes for d in documents], np.int64),
            together=together,
        )

    def __len__(self) -> int:
        return len(self.lines)

    def inputs(self) -> Ints:
        """Input tokens of each document: all but the last, which is only ever a label."""
        return np.diff(self.starts) - 1

    def examples(self) -> Ints:
        """Input tokens of the documents that stay together."""
        return self.inputs().reshape(-1, self.together).sum(1)

    def documents_of(self, examples: list[int]) -> list[int]:
        return [example * self.together + i for example in examples for i in range(self.together)]

    def labels(self) -> int:
        """How many tokens carry loss: a document's first token has nothing before it."""
        return int(self.trained.sum() - self.trained[self.starts[:-1]].sum())

    def size_bytes(self) -> int:
        return int(self.sizes_bytes.sum())

    def head(self, documents: int) -> "Corpus":
        """The first documents alone."""
        end = int(self.starts[: documents + 1][-1])
        return Corpus(
            ids=self.ids[:end],
            trained=self.trained[:end],
            starts=self.starts[: documents + 1],
            lines=self.lines[:documents],
            sizes_bytes=self.sizes_bytes[:documents],
            together=self.together,
            reference=None if self.reference is None else self.reference[:documents],
        )


@dataclass(frozen=True)
class Batch:
    """One flat row for one forward pass. T tokens, N of them followed by a label."""

    ids_T: Tensor
    positions_T: Tensor
    labelled_N: Tensor
    """Where in the row the labels are predicted from."""
    labels_N: Tensor
    segments: tuple[int, ...]
    """Lengths of the documents; no token sees another document."""
    lines: tuple[int, ...]
    reference_S: Tensor | None = None

    @property
    def tokens(self) -> int:
        return len(self.ids_T)

    @property
    def count(self) -> int:
        return len(self.labels_N)

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self
        moved = (
            t.to(device, non_blocking=True) for t in (self.ids_T, self.positions_T, self.labelled_N, self.labels_N)
        )
        reference_S = None if self.reference_S is None else self.reference_S.to(device, non_blocking=True)
        return Batch(*moved, segments=self.segments, lines=self.lines, reference_S=reference_S)


def batch_of(corpus: Corpus, documents: list[int]) -> Batch:
    """The documents side by side in one flat row, positions starting anew in each."""
    spans = [(int(corpus.starts[d]), int(corpus.starts[d + 1])) for d in documents]
    segments = tuple(end - start - 1 for start, end in spans)
    ids = np.concatenate([corpus.ids[start : end - 1] for start, end in spans])
    labels = np.concatenate([corpus.ids[start + 1 : end] for start, end in spans])
    trained = np.concatenate([corpus.trained[start + 1 : end] for start, end in spans])
    where = np.flatnonzero(trained)
    return Batch(
        ids_T=torch.from_numpy(ids.astype(np.int64)),
        positions_T=torch.from_numpy(np.concatenate([np.arange(length, dtype=np.int64) for length in segments])),
        labelled_N=torch.from_numpy(where),
        labels_N=torch.from_numpy(labels[where].astype(np.int64)),
        segments=segments,
        lines=tuple(int(corpus.lines[d]) for d in documents),
        reference_S=None if corpus.reference is None else torch.from_numpy(corpus.reference[documents]),
    )


@dataclass(frozen=True)
class Rows:
    """What a job learns from (None: it only scores) and what it is scored on (None: nothing was held out)."""

    train: Corpus | None
    validation: Corpus | None
