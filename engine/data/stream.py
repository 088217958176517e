"""The order in which rows are trained on. It is a pure function of the seed, so a cursor is a few numbers."""

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np

from engine.data.corpus import Batch, Corpus, batch_of
from engine.data.mixture import Mixture, Share
from engine.data.packing import pack
from engine.data.rows import Rows
from engine.data.supply import Supply
from engine.dist.ranks import Ranks
from engine.parts import TrainingSpec
from engine.schedule import decay_start


class Place(NamedTuple):
    """The next packed row of a supply, and how many tokens were drawn before it."""

    epoch: int = 0
    window: int = 0
    row: int = 0
    tokens: int = 0


class Cursor(NamedTuple):
    """The next step, and the place of each supply."""

    step: int
    places: tuple[Place, ...]


class _Packed(NamedTuple):
    """A window's documents, and the packed rows made of them."""

    corpus: Corpus
    rows: list[list[int]]


class Drawn(NamedTuple):
    """A packed row of a step: documents of a corpus, and the number of the supply that they are from."""

    source: int
    corpus: Corpus
    documents: list[int]


class PackedRows:
    """The packed rows of one supply, without end; a thread prepares the next window while one is in use."""

    def __init__(self, share: Share, *, seed: tuple[int, int], row_tokens: int, packing: bool) -> None:
        self.name, self.supply, self.weight = share
        self.seed = seed
        self.row_tokens = row_tokens
        self.packing = packing
        self.place = Place()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows")
        self._ahead: dict[tuple[int, int], Future[_Packed]] = {}

    def take(self) -> tuple[Corpus, list[int]]:
        """Return the corpus and the documents of the next row."""
        window = self._settle()
        place = self.place
        documents = window.rows[place.row]
        tokens = place.tokens + int(window.corpus.inputs()[documents].sum())
        self.place = place._replace(row=place.row + 1, tokens=tokens)
        if self.place.row == len(window.rows):
            self.place = self._next_window()
        return window.corpus, documents

    def step_rows(self, most: int) -> int:
        """Return how many rows the next step takes: those left of the epoch are spread evenly over its last steps."""
        left = len(self._settle().rows) - self.place.row
        window = self.place.window
        while left < most and window + 1 < self.supply.windows:
            window += 1
            left += len(self.window(self.place.epoch, window).rows)
        return left // math.ceil(left / most) if window + 1 == self.supply.windows else most

    def epoch(self) -> float:
        place = self.place
        done = place.row / max(1, len(self.window(place.epoch, place.window).rows)) if place.row else 0.0
        return place.epoch + (place.window + done) / self.supply.windows

    def window(self, epoch: int, index: int) -> _Packed:
        """Return a window in rows; windows before the current place are dropped, and the next one is begun."""
        here = (self.place.epoch, self.place.window)
        self._ahead = {key: made for key, made in self._ahead.items() if key >= here}
        wanted = self._begin(epoch, index)
        self._begin(*((epoch, index + 1) if index + 1 < self.supply.windows else (epoch + 1, 0)))
        return wanted.result()

    def rows_in(self, epoch: int, index: int) -> int:
        return len(self._pack(epoch, index).rows)

    def _begin(self, epoch: int, index: int) -> "Future[_Packed]":
        if (epoch, index) not in self._ahead:
            self._ahead[epoch, index] = self._thread.submit(self._pack, epoch, index)
        return self._ahead[epoch, index]

    def _pack(self, epoch: int, index: int) -> _Packed:
        corpus = self.supply.window(epoch, index)
        rng = np.random.default_rng((*self.seed, epoch, index))
        lengths = corpus.examples()
        order = rng.permutation(len(lengths))
        if self.packing:
            packed = pack(lengths, order, self.row_tokens)
            packed = [packed[i] for i in rng.permutation(len(packed))]
        else:
            packed = [[int(example)] for example in order]
        return _Packed(corpus, [corpus.documents_of(examples) for examples in packed])

    def _settle(self) -> _Packed:
        """Move the place past windows without rows, and return the window that it is then in."""
        window = self.window(self.place.epoch, self.place.window)
        while not window.rows:
            self.place = self._next_window()
            window = self.window(self.place.epoch, self.place.window)
        return window

    def _next_window(self) -> Place:
        place = self.place
        if place.window + 1 < self.supply.windows:
            return Place(place.epoch, place.window + 1, 0, place.tokens)
        return Place(place.epoch + 1, 0, 0, place.tokens)


class RowStream:
    """Steps of micro-batches, without end.

    With one supply, each epoch holds every document once, in an order of its own, and its rows are spread so that no
    step is much smaller than the others. With a mixture, each row comes from the supply that is furthest behind its
    share of the tokens, and each supply has epochs of its own; from step `annealing_from` on, rows come from the
    supplies of the annealing tail. Documents that belong together stay together. `step_rows` are the rows of a
    micro-batch and the micro-batches of a step.
    """

    def __init__(
        self,
        train: Supply | Mixture,
        *,
        seed: int,
        row_tokens: int,
        step_rows: tuple[int, int],
        packing: bool,
        annealing_from: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        mixture = Mixture.of(train)
        shares = (*mixture.shares, *mixture.annealing)
        self.sources = [
            PackedRows(share, seed=(seed, number), row_tokens=row_tokens, packing=packing)
            for number, share in enumerate(shares)
        ]
        self.batch_rows, self.accumulation = step_rows
        self._first_in_tail = len(mixture.shares)
        self._annealing_from = annealing_from if mixture.annealing else None
        self._step = 0

    @classmethod
    def of_job(cls, rows: Rows, spec: TrainingSpec, ranks: Ranks | None = None) -> Self:
        """Return the stream of a job's rows, as its spec orders them."""
        hyper, train = spec.hyperparameters, rows.train
        assert train is not None, "a job that trains has rows"
        assert hyper.per_device_train_batch_size != "auto", "the spec is resolved"
        assert hyper.gradient_accumulation_steps != "auto", "the spec is resolved"
        return cls(
            train,
            seed=spec.seed,
            row_tokens=hyper.max_length * train.together,
            step_rows=(hyper.per_device_train_batch_size, hyper.gradient_accumulation_steps),
            packing=hyper.packing,
            annealing_from=None if hyper.max_steps is None else decay_start(hyper, hyper.max_steps),
            ranks=ranks,
        )

    @property
    def cursor(self) -> Cursor:
        return Cursor(self._step, tuple(source.place for source in self.sources))

    @cursor.setter
    def cursor(self, cursor: Cursor) -> None:
        self._step = cursor.step
        for source, place in zip(self.sources, cursor.places, strict=True):
            source.place = Place(*place)

    def steps_in(self, epochs: float) -> int:
        """Return how many steps these epochs of one supply take, at least one; an estimate where `is_estimate`."""
        (source,) = self.sources
        if self.is_estimate():
            rows = source.rows_in(0, 0) / source.supply.part(0, 0)
            return max(1, round(epochs * rows / self._most()))
        whole = int(epochs)
        steps = sum(self._steps_of(epoch) for epoch in range(whole))
        if epochs > whole:
            steps += round((epochs - whole) * self._steps_of(whole))
        return max(1, steps)

    def is_estimate(self) -> bool:
        """Whether `steps_in` counts the rows of one window only: to count them all, all would have to be tokenized."""
        return self.sources[0].supply.windows > 1

    def _steps_of(self, epoch: int) -> int:
        return math.ceil(self.sources[0].rows_in(epoch, 0) / self._most())

    def _most(self) -> int:
        return self.batch_rows * self.accumulation

    def epoch(self) -> float:
        """Return the position of the cursor in epochs of the first supply in use."""
        return self._active()[0].epoch()

    @property
    def files(self) -> tuple[str, ...]:
        """The files' names, in the order that `Batch.files` refers to."""
        return tuple(source.name for source in self.sources)

    def tokens_by_file(self) -> dict[str, float]:
        """Return the tokens drawn from each file so far; nothing without a mixture."""
        counts: dict[str, float] = {}
        for source in self.sources if len(self.sources) > 1 else ():
            name = f"tokens/{source.name}"
            counts[name] = counts.get(name, 0.0) + source.place.tokens
        return counts

    def next_step(self) -> list[Batch]:
        """Return this rank's micro-batches of the current step, and move the cursor on.

        All ranks draw the same rows, and each takes consecutive micro-batches of them.
        """
        step, pieces = self._step, self.draw_step()
        each = len(pieces) // self.ranks.count
        return [self._piece(pieces, number + self.ranks.rank * each, step) for number in range(each)]

    def draw_step(self) -> list[list[Drawn]]:
        """Return the rows of all micro-batches: of about one size, equally many per rank, some empty if rows are few."""
        active = self._active()
        rows = active[0].step_rows(self._most()) if len(active) == 1 else self._most()
        drawn = [self._draw(active) for _ in range(rows)]
        self._step += 1
        pieces = math.ceil(rows / (self.ranks.count * self.batch_rows)) * self.ranks.count
        edges = [rows * piece // pieces for piece in range(pieces + 1)]
        return [drawn[start:stop] for start, stop in pairwise(edges)]

    def _piece(self, pieces: list[list[Drawn]], number: int, step: int) -> Batch:
        """Return a micro-batch; an empty one has the rows of another, and does not count."""
        rows = pieces[number]
        before = sum(len(row.documents) for piece in pieces[:number] for row in piece)
        some = rows or next(filter(None, pieces))
        return replace(self._batch(some), drawn=(step, before), counts=bool(rows))

    def _active(self) -> list[PackedRows]:
        tail = self._annealing_from is not None and self._step >= self._annealing_from
        return self.sources[self._first_in_tail :] if tail else self.sources[: self._first_in_tail]

    def _draw(self, active: list[PackedRows]) -> Drawn:
        """Draw a row from the supply that is furthest behind its share."""
        source = min(active, key=lambda source: source.place.tokens / source.weight)
        return Drawn(self.sources.index(source), *source.take())

    def _batch(self, drawn: list[Drawn]) -> Batch:
        if all(row.corpus is drawn[0].corpus for row in drawn):
            batch = batch_of(drawn[0].corpus, [document for row in drawn for document in row.documents])
        else:
            taken = Corpus.join([row.corpus.take(np.array(row.documents)) for row in drawn])
            batch = batch_of(taken, list(range(len(taken))))
        if len(self.sources) == 1:
            return batch
        return replace(batch, files=tuple(row.source for row in drawn for _ in row.documents))


def documents_in_order(corpus: Corpus, token_budget: int) -> Iterator[list[int]]:
    """Yield batches of documents of like length with at most `token_budget` tokens, always the same batches."""
    examples: list[int] = []
    held = 0
    lengths = corpus.examples()
    for example in np.argsort(-lengths, kind="stable"):
        if examples and held + lengths[example] > token_budget:
            yield corpus.documents_of(examples)
            examples, held = [], 0
        examples.append(int(example))
        held += int(lengths[example])
    if examples:
        yield corpus.documents_of(examples)
