"""Tokenized documents in flat arrays, and the batches made of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Ints = NDArray[np.int64]


class Document(NamedTuple):
    """A document's tokens; `trained` marks those that carry loss, `size_bytes` is the size of their text."""

    line: int
    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    size_bytes: int


@dataclass(frozen=True)
class Corpus:
    """Documents one after the other. `lines` are the lines of the data file that they are from."""

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    starts: Ints
    lines: Ints
    sizes_bytes: Ints
    together: int = 1
    """Number of neighbouring documents that stay in one batch: 2 where each row is a pair."""
    shared: Ints | None = None
    """How many of its first tokens each document shares with the first of those that it stays together with."""
    reference: NDArray[np.float32] | None = None
    """The score of each document under the starting weights, for losses that compare with them."""

    @classmethod
    def of(cls, documents: list[Document], *, together: int = 1) -> Self:
        lengths = [len(d.ids) for d in documents]
        return cls(
            ids=np.concatenate([np.empty(0, np.int32), *(d.ids for d in documents)]),
            trained=np.concatenate([np.empty(0, np.bool_), *(d.trained for d in documents)]),
            starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            lines=np.array([d.line for d in documents], np.int64),
            sizes_bytes=np.array([d.size_bytes for d in documents], np.int64),
            together=together,
        )

    def __len__(self) -> int:
        return len(self.lines)

    def documents(self) -> list[Document]:
        starts = self.starts.tolist()
        return [
            Document(line, self.ids[start:stop], self.trained[start:stop], size_bytes)
            for start, stop, line, size_bytes in zip(
                starts[:-1], starts[1:], self.lines.tolist(), self.sizes_bytes.tolist(), strict=True
            )
        ]

    def inputs(self) -> Ints:
        """Return the number of input tokens of each document: all but the last, which is only a label."""
        return np.diff(self.starts) - 1

    def examples(self) -> Ints:
        """Return the number of input tokens of each example: the documents that stay together."""
        return self.inputs().reshape(-1, self.together).sum(1)

    def documents_of(self, examples: list[int]) -> list[int]:
        return [example * self.together + i for example in examples for i in range(self.together)]

    def with_shared_prefixes(self) -> Self:
        """Return the corpus with shared prefixes: batches hold what an example has in common once (arXiv:2410.20305).

        Every document keeps at least one input token of its own.
        """
        shared = np.zeros(len(self), np.int64)
        for document in range(len(self)):
            leader = document - document % self.together
            if leader != document:
                shared[document] = _common(self._inputs_of(leader)[:-1], self._inputs_of(document)[:-1])
        return replace(self, shared=shared)

    def _inputs_of(self, document: int) -> NDArray[np.int32]:
        return self.ids[self.starts[document] : self.starts[document + 1] - 1]

    def labels(self) -> int:
        """Return how many tokens carry loss; a document's first token never does, as nothing precedes it."""
        return int(self.trained.sum() - self.trained[self.starts[:-1]].sum())

    def size_bytes(self) -> int:
        return int(self.sizes_bytes.sum())

    def head(self, documents: int) -> "Corpus":
        """Return the first documents."""
        return self.take(np.arange(min(documents, len(self))))

    def take(self, documents: Ints) -> "Corpus":
        """Return these documents as a corpus."""
        lengths = np.diff(self.starts)[documents]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens = np.repeat(self.starts[:-1][documents] - starts[:-1], lengths) + np.arange(starts[-1])
        return Corpus(
            ids=self.ids[tokens],
            trained=self.trained[tokens],
            starts=starts,
            lines=self.lines[documents],
            sizes_bytes=self.sizes_bytes[documents],
            together=self.together,
            shared=None if self.shared is None else self.shared[documents],
            reference=None if self.reference is None else self.reference[documents],
        )

    @classmethod
    def join(cls, corpora: Sequence["Corpus"]) -> "Corpus":
        """Join the documents of several corpora, none of which has a reference."""
        assert all(corpus.reference is None for corpus in corpora), "scores are made of a whole corpus"
        lengths = np.concatenate([np.diff(corpus.starts) for corpus in corpora])
        return cls(
            ids=np.concatenate([corpus.ids for corpus in corpora]),
            trained=np.concatenate([corpus.trained for corpus in corpora]),
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            lines=np.concatenate([corpus.lines for corpus in corpora]),
            sizes_bytes=np.concatenate([corpus.sizes_bytes for corpus in corpora]),
            together=corpora[0].together,
        )

    # A corpus in memory is a supply of one window.
    @property
    def windows(self) -> int:
        return 1

    def window(self, epoch: int, index: int) -> "Corpus":  # noqa: ARG002 - a supply has many
        return self

    def part(self, epoch: int, index: int) -> float:  # noqa: ARG002 - as above
        return 1.0

    def row_count(self) -> int:
        """Count rows by runs of documents on one line: rows of different files may have the same line number."""
        return int(np.count_nonzero(np.diff(self.lines))) + bool(len(self.lines))


@dataclass(frozen=True)
class Batch:
    """One flat row for one forward pass: T tokens, and N labels."""

    ids_T: Tensor
    positions_T: Tensor
    labelled_N: Tensor
    """The places in the row from which the labels are predicted."""
    labels_N: Tensor
    segments: tuple[int, ...]
    """Number of tokens of each document in the row; no document attends to another."""
    lines: tuple[int, ...]
    reference_S: Tensor | None = None
    label_counts: tuple[int, ...] = ()
    """Number of labels of each document, in the order of the documents."""
    prefixes: tuple[tuple[int, int], ...] = ()
    """(begin, end) in the row of the shared tokens that precede each document's own; () where no document has any."""
    files: tuple[int, ...] = ()
    """The number of the file of a mixture that each document is from."""
    drawn: tuple[int, int] = (0, 0)
    """The step, and the number in it of the first document here: dropout is a function of these two."""
    counts: bool = True
    """Whether the batch is part of the step; otherwise it is computed only to keep in step with other ranks."""

    @property
    def tokens(self) -> int:
        return len(self.ids_T)

    @property
    def count(self) -> int:
        return len(self.labels_N)

    @property
    def all_labelled(self) -> bool:
        return self.count == self.tokens and bool((self.labelled_N == torch.arange(self.tokens)).all())

    @property
    def first_labelled(self) -> tuple[int, ...]:
        """The first of each document's own tokens from which a label is predicted; its length where there is none."""
        places = torch.cat([self.labelled_N.sort().values, torch.tensor([self.tokens])])
        ends = torch.tensor(self.segments).cumsum(0)
        starts = ends - torch.tensor(self.segments)
        first = places[torch.searchsorted(places, starts)].minimum(ends)
        return tuple((first - starts).tolist())

    @property
    def attended(self) -> float:
        """Query-key pairs of all documents, counted as full squares; causal attention computes half of them."""
        prefixes = self.prefixes or ((0, 0),) * len(self.segments)
        spans = zip(self.segments, prefixes, strict=True)
        return sum(float(length) * (length + 2 * (end - begin)) for length, (begin, end) in spans)

    def filled(self, tokens: int) -> "Batch":
        """Return the batch padded to a row of `tokens` tokens; padding is in no document and attends to nothing."""
        missing = tokens - self.tokens
        if not missing:
            return self
        ids_T, positions_T = (functional.pad(each, (0, missing)) for each in (self.ids_T, self.positions_T))
        return replace(self, ids_T=ids_T, positions_T=positions_T)

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return replace(
            self,
            ids_T=moved(self.ids_T),
            positions_T=moved(self.positions_T),
            labelled_N=moved(self.labelled_N),
            labels_N=moved(self.labels_N),
            reference_S=None if self.reference_S is None else moved(self.reference_S),
        )


def batch_of(corpus: Corpus, documents: list[int]) -> Batch:
    """Put the documents side by side into one flat row, with positions from 0 in each.

    A prefix shared with an earlier document is not repeated: the labels in it are predicted from the earlier places.
    """
    places = _places(corpus, documents)
    ids, positions, where, labels = [], [], [], []
    for document, place in zip(documents, places, strict=True):
        start, end, shared = int(corpus.starts[document]), int(corpus.starts[document + 1]), len(place.prefix)
        ids.append(corpus.ids[start + shared : end - 1])
        positions.append(np.arange(shared, end - start - 1, dtype=np.int64))
        trained = np.flatnonzero(corpus.trained[start + 1 : end])
        where.append(np.where(trained < shared, place.prefix.start, place.start - shared) + trained)
        labels.append(corpus.ids[start + 1 : end][trained])
    return Batch(
        ids_T=torch.from_numpy(np.concatenate(ids).astype(np.int64)),
        positions_T=torch.from_numpy(np.concatenate(positions)),
        labelled_N=torch.from_numpy(np.concatenate(where)),
        labels_N=torch.from_numpy(np.concatenate(labels).astype(np.int64)),
        segments=tuple(len(part) for part in ids),
        lines=tuple(int(corpus.lines[d]) for d in documents),
        reference_S=None if corpus.reference is None else torch.from_numpy(corpus.reference[documents]),
        label_counts=tuple(len(part) for part in labels),
        prefixes=() if corpus.shared is None else tuple((p.prefix.start, p.prefix.stop) for p in places),
    )


class _Place(NamedTuple):
    """Where a document's own tokens begin in the row, and the range of the shared tokens before them."""

    start: int
    prefix: range


def _places(corpus: Corpus, documents: list[int]) -> list[_Place]:
    places: list[_Place] = []
    starts: dict[int, int] = {}
    start = 0
    for document in documents:
        leader = starts.get(document - document % corpus.together)
        shared = 0 if corpus.shared is None or leader is None else int(corpus.shared[document])
        begin = leader or 0
        places.append(_Place(start, range(begin, begin + shared)))
        starts[document] = start
        start += int(corpus.starts[document + 1] - corpus.starts[document]) - 1 - shared
    return places


def _common(one: NDArray[np.int32], other: NDArray[np.int32]) -> int:
    """Return the length of the common prefix."""
    length = min(len(one), len(other))
    apart = np.flatnonzero(one[:length] != other[:length])
    return int(apart[0]) if len(apart) else length
